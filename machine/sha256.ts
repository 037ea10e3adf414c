/**
 * SHA-256 (FIPS 180-4) as hex digits. Names and owner tags are derived with it, a few short ones for each request, and
 * loading node:crypto for that takes 8 ms, a fifth of what a plugin that runs as a process of its own has.
 */
export function sha256Hex(text: string): string {
  const words = paddedWords(Buffer.from(text));
  const state = Int32Array.from(initialState);
  const schedule = new Int32Array(64);
  for (let start = 0; start < words.length; start += 16) {
    schedule.set(words.subarray(start, start + 16));
    extend(schedule);
    compress(state, schedule);
  }
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** Section 5.1.1: the message, a one bit, zeros, and its length in bits as 64-bit number; as words, high byte first. */
function paddedWords(message: Uint8Array): Int32Array {
  const words = new Int32Array(16 * Math.ceil((message.length + 9) / 64));
  const put = (at: number, byte: number) => {
    words[at >> 2] = (words[at >> 2] ?? 0) | (byte << (24 - 8 * (at & 3)));
  };
  for (let at = 0; at < message.length; at++) put(at, message[at] ?? 0);
  put(message.length, 0x80);
  words[words.length - 2] = Math.floor(message.length / 2 ** 29);
  words[words.length - 1] = message.length << 3;
  return words;
}

function rotate(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

/** Section 6.2.2, step 1. */
function extend(schedule: Int32Array): void {
  const at = (index: number) => schedule[index] ?? 0;
  for (let t = 16; t < 64; t++) {
    const a = at(t - 15);
    const b = at(t - 2);
    const sigma0 = rotate(a, 7) ^ rotate(a, 18) ^ (a >>> 3);
    const sigma1 = rotate(b, 17) ^ rotate(b, 19) ^ (b >>> 10);
    schedule[t] = sigma1 + at(t - 7) + sigma0 + at(t - 16);
  }
}

/** Section 6.2.2, steps 2 to 4. */
function compress(state: Int32Array, schedule: Int32Array): void {
  let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = state;
  const before = [a, b, c, d, e, f, g, h];
  for (let t = 0; t < 64; t++) {
    const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const first = (h + sum1 + ((e & f) ^ (~e & g)) + (constants[t] ?? 0) + (schedule[t] ?? 0)) | 0;
    const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const second = (sum0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  state.set([a, b, c, d, e, f, g, h].map((word, index) => (word + (before[index] ?? 0)) | 0));
}

/** The first 32 bits of the fractional part of `root`. */
function fraction(root: number): number {
  return Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
}

/** Section 4.2.2: from the cube roots of the first 64 primes; section 5.3.3: from the square roots of the first eight. */
const primes = firstPrimes(64);
const constants = Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime)));
const initialState = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

function firstPrimes(count: number): number[] {
  const found: number[] = [];
  for (let candidate = 2; found.length < count; candidate++) {
    if (found.every((prime) => candidate % prime !== 0)) found.push(candidate);
  }
  return found;
}
