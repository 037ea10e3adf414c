/** What stands for the interface's name in a key; its first occurrence does. */
const placeholder = "IFNAME";

/** One key of the `sysctl` map. */
export interface SysctlKey {
  /** As the configuration has it. */
  readonly text: string;
  /** Below /proc/sys, with the placeholder: "net/ipv4/conf/IFNAME/arp_filter" */
  readonly path: string;
}

/**
 * Reads `net.ipv4.conf.IFNAME.arp_filter` or `net/ipv4/conf/IFNAME/arp_filter`. As for sysctl(8), the first separator
 * tells which of the two separates; the other one is part of a name then, for interfaces that have a dot in theirs:
 * `net.ipv4.conf.eth0/10.arp_filter`.
 * @throws {RangeError} for a key that is not below /proc/sys/net, since only those belong to a network namespace
 */
export function parseSysctlKey(text: string): SysctlKey {
  const path = (/[./]/.exec(text)?.[0] === "/" ? text : swapSeparators(text))
    .split("/")
    .filter((word) => word !== "")
    .join("/");
  const words = path.split("/");
  if (words.length < 2 || words[0] !== "net" || /^[./]/.test(text) || hasNoName(words)) {
    throw new RangeError(`invalid net sysctl key: ${JSON.stringify(text)}`);
  }
  return { text, path };
}

/** A way up, out of /proc/sys/net; or a name that ends at a NUL for the kernel. */
function hasNoName(words: readonly string[]): boolean {
  return words.some((word) => word === "." || word === ".." || word.includes("\0"));
}

function swapSeparators(text: string): string {
  return text.replace(/[./]/g, (separator) => (separator === "." ? "/" : "."));
}

/** The file below /proc/sys that a key means for one interface. */
export function sysctlPath(key: SysctlKey, ifName: string): string {
  return key.path.replace(placeholder, () => ifName);
}

/** With dots, as it is mostly written: what an allowlist is written against. */
export function dottedKey(key: SysctlKey): string {
  return swapSeparators(key.path);
}

/** Whether a value that was read is the one that was written: the kernel puts tabs between numbers, and drops zeros. */
export function equalSysctlValues(written: string, read: string): boolean {
  const [a, b] = [wordsOf(written), wordsOf(read)];
  return a.length === b.length && a.every((word, index) => equalWords(word, b[index] ?? ""));
}

function wordsOf(value: string): readonly string[] {
  return value.split(/\s+/).filter((word) => word !== "");
}

function equalWords(a: string, b: string): boolean {
  return a === b || (isNumber(a) && isNumber(b) && BigInt(a) === BigInt(b));
}

function isNumber(word: string): boolean {
  return /^(0x[0-9a-f]+|[0-9]+)$/i.test(word);
}
