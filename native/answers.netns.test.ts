import { closeSync, openSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { type Answers, native, type Poller, PollRecord } from "./addon.ts";

const inet = 2;
const datagram = 2;
const nonBlocking = 0o4000;
const tag = 7;
const slots = 64;
const slotBytes = 4096;

let namespace: TestNamespace;
let server: number;
let client: number;
let poller: Poller;
let clientPoller: Poller;

const address = (port: number) => {
  const bytes = new Uint8Array(24);
  new Uint16Array(bytes.buffer)[0] = inet;
  bytes.set([port >> 8, port & 0xff, 127, 0, 0, 1], 2);
  return bytes;
};

beforeEach(() => {
  namespace = TestNamespace.create("answers");
  const namespaceFd = openSync(namespace.path, "r");
  poller = native().pollerCreate();
  clientPoller = native().pollerCreate();
  server = native().socketIn(namespaceFd, inet, datagram | nonBlocking, 0);
  client = native().socketIn(namespaceFd, inet, datagram | nonBlocking, 0);
  closeSync(namespaceFd);
  native().socketBind(server, address(53));
  native().socketConnect(client, address(53));
  native().pollerAdd(poller, server, tag, true);
  native().pollerAdd(clientPoller, client, tag, true);
});
afterEach(() => {
  native().pollerClose(poller, server);
  native().pollerClose(clientPoller, client);
  namespace.remove();
});

function wait(which: Poller, timeoutMs: number): string[] {
  const buffer = new Uint8Array(slots * slotBytes);
  const records = new Int32Array(slots * 4);
  const count = native().pollerWait(which, timeoutMs, buffer, records, new Uint8Array(slots * 24));
  return Array.from({ length: count }, (_, index) => {
    const [, what, start = 0, length = 0] = records.subarray(index * 4);
    expect(what).toBe(PollRecord.Datagram);
    return Buffer.from(buffer.subarray(start, start + length)).toString("latin1");
  });
}

/** What JavaScript hears of these datagrams, and what the client does. */
function ask(...messages: readonly string[]): { readonly told: string[]; readonly answered: string[] } {
  for (const message of messages) native().socketSend(client, Buffer.from(message, "latin1"));
  const told: string[] = [];
  const answered: string[] = [];
  // Each is either told or answered.
  while (told.length + answered.length < messages.length) {
    told.push(...wait(poller, 1));
    answered.push(...wait(clientPoller, 0));
  }
  return { told, answered };
}

function keep(
  answers: Answers,
  key: string,
  messages: readonly string[],
  { holdsMs = Infinity, ageMs = 0, ttls = [] as readonly number[] } = {},
): void {
  const bytes = Buffer.from(messages.join(""), "latin1");
  const lengths = Int32Array.from(messages, ({ length }) => length);
  native().answersKeep(
    answers,
    Buffer.from(key, "latin1"),
    holdsMs,
    ageMs,
    bytes,
    lengths,
    Int32Array.from(ttls),
  );
}

function table(): Answers {
  const answers = native().answersCreate(poller);
  native().pollerAnswer(poller, server, answers);
  return answers;
}

const header = "..----------";

describe("a table of answers", () => {
  test("answers the same bytes with the query's own id, and tells of all others", () => {
    const answers = table();
    keep(answers, "question", [`${header}answer`]);
    expect(ask("12question", "ab", "34question", "56questioN", "78questions", "9")).toEqual({
      told: ["ab", "56questioN", "78questions", "9"],
      answered: ["12----------answer", "34----------answer"],
    });
    expect(native().pollerAnswered(poller, server)).toBe(2);
    native().pollerTellAll(poller, true);
    expect(ask("12question").told).toEqual(["12question"]);
    native().pollerTellAll(poller, false);
    expect(ask("12question").told).toEqual([]);
    native().answersClear(answers);
    expect(ask("12question")).toEqual({ told: ["12question"], answered: [] });
    keep(answers, "question", [`${header}other`]);
    expect(ask("12question").answered).toEqual(["12----------other"]);
    keep(answers, "question", [`${header}newest`]);
    expect(ask("12question").answered).toEqual(["12----------newest"]);
    native().pollerAnswer(poller, server, native().answersCreate(poller));
    expect(ask("12question")).toEqual({ told: ["12question"], answered: [] });
  });

  test("answers whoever asks, also between others that it knows nothing of", () => {
    const answers = table();
    const expected: string[] = [];
    const messages: string[] = [];
    const strangers: string[] = [];
    for (let index = 0; index < 60; index++) {
      const id = String.fromCharCode(index, 255 - index);
      if (index % 3 === 0) {
        strangers.push(`${id}stranger${index}`);
        messages.push(`${id}stranger${index}`);
        continue;
      }
      keep(answers, `name${index}`, [`${header}${"x".repeat(index)}`]);
      messages.push(`${id}name${index}`);
      expected.push(`${id}----------${"x".repeat(index)}`);
    }
    expect(ask(...messages)).toEqual({ told: strangers, answered: expected });
  });

  test("sends variants in turn", () => {
    keep(table(), "q", [`${header}a`, `${header}bb`, `${header}ccc`]);
    const { answered } = ask("12q", "12q", "12q", "12q");
    expect(answered.map((each) => each.slice(12))).toEqual(["a", "bb", "ccc", "a"]);
  });

  test("counts TTLs down, to 0 at least, and forgets what no longer holds", () => {
    const answers = table();
    const message = (...ttls: readonly number[]) => {
      const bytes = Buffer.alloc(12 + 4 * ttls.length);
      for (const [index, ttl] of ttls.entries()) bytes.writeUInt32BE(ttl, 12 + 4 * index);
      return bytes.toString("latin1");
    };
    const ttlsOf = (text = "") => {
      const bytes = Buffer.from(text, "latin1");
      return [12, 16, 20].map((at) => bytes.readUInt32BE(at));
    };
    const both = [message(100_000, 50, 0x80000001), message(100_000, 50, 9)];
    keep(answers, "old", both, { ageMs: 1000_500, ttls: [12, 16, 20] });
    const first = ttlsOf(ask("12old").answered[0]);
    const second = ttlsOf(ask("12old").answered[0]);
    // A second or several may pass meanwhile.
    for (const [ttl, fifty, other] of [first, second]) {
      expect(ttl).toBeLessThanOrEqual(99_000);
      expect(ttl).toBeGreaterThan(98_000);
      expect([fifty, other]).toEqual([0, 0]);
    }
    keep(answers, "young", both, { ttls: [12] });
    expect(ttlsOf(ask("12young").answered[0])[1]).toBe(50);
    keep(answers, "gone", both, { holdsMs: 0 });
    expect(ask("12gone").told).toEqual(["12gone"]);
    keep(answers, "going", both, { holdsMs: 20 });
    while (ask("12going").told.length === 0);
  });

  test("has a bound: who asks for more and more names throws out what was there before", () => {
    const answers = table();
    for (let index = 0; index < 10_000; index++) keep(answers, `name${index}`, [`${header}answer`]);
    expect(ask("12name1", "12name9999").told).toEqual(["12name1"]);
    // Long ones: the bytes count, in all tables together.
    const before = process.memoryUsage.rss();
    const long = Buffer.alloc(8 * 4000);
    const lengths = new Int32Array(8).fill(4000);
    const none = new Int32Array(0);
    const tables = Array.from({ length: 200 }, () => native().answersCreate(poller));
    for (const other of tables) {
      for (let index = 0; index < 100; index++)
        native().answersKeep(other, Uint8Array.of(index), Infinity, 0, long, lengths, none);
    }
    // 640 MB were kept.
    expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 1024 * 1024);
  });

  test("refuses what is no answer", () => {
    const answers = table();
    expect(() => keep(answers, "q", ["short"])).toThrow(RangeError);
    expect(() => keep(answers, "q", [])).toThrow(RangeError);
    expect(() => keep(answers, "q".repeat(321), [`${header}a`])).toThrow(RangeError);
    expect(() => keep(answers, "q", [`${header}abc`], { ttls: [12] })).toThrow(RangeError);
    expect(() => keep(answers, "q", [`${header}abc`], { holdsMs: Number.NaN })).toThrow(RangeError);
    const nine = Array.from({ length: 9 }, () => `${header}a`);
    expect(() => keep(answers, "q", nine)).toThrow(RangeError);
  });
});
