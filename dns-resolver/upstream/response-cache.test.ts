import { expect, test } from "vitest";
import { type Cached, ResponseCache } from "./response-cache.ts";

const entry = (bytes: number, untilMs = 1000): Cached => ({
  response: {
    bytes: new Uint8Array(bytes),
    questionBytes: 10,
    rcode: 0,
    isTruncated: false,
    nameOffsets: [],
    ttlOffsets: [],
    ttlSeconds: 60,
  },
  server: "192.0.2.1",
  bornMs: 0,
  untilMs,
});

test("what is asked for again stays, whatever else is asked for once", () => {
  const cache = new ResponseCache({ maxBytes: 100_000 });
  for (let index = 0; index < 50; index++) {
    cache.put(`often${index}`, entry(100));
    cache.find(`often${index}`, 1);
  }
  for (let index = 0; index < 100_000; index++) cache.put(`once${index}`, entry(100));
  expect(cache.bytes).toBeLessThanOrEqual(100_000);
  for (let index = 0; index < 50; index++) expect(cache.find(`often${index}`, 1)).toBeDefined();
  expect(cache.find("once0", 1)).toBeUndefined();
});

test("what has expired is not found, and counts no more", () => {
  const cache = new ResponseCache({ maxBytes: 100_000 });
  cache.put("a", entry(100, 10));
  cache.put("b", entry(100, 10));
  cache.find("b", 5);
  expect(cache.find("a", 10)).toBeUndefined();
  expect(cache.find("b", 10)).toBeUndefined();
  expect([cache.size, cache.bytes]).toEqual([0, 0]);
});

test("answers of one group of servers go without the others'", () => {
  const cache = new ResponseCache({ maxBytes: 100_000 });
  cache.put("host 192.0.2.1\n1 0 0 a", entry(100));
  cache.put("host 192.0.2.2\n1 0 0 a", entry(100));
  cache.dropGroup("host 192.0.2.1");
  expect(cache.size).toBe(1);
  expect(cache.find("host 192.0.2.2\n1 0 0 a", 1)).toBeDefined();
});

test("the longest unused makes room, and a message that is larger than all of it is not kept", () => {
  const cache = new ResponseCache({ maxBytes: 10_000 });
  for (let index = 0; index < 100; index++) {
    cache.put(`k${index}`, entry(100));
    cache.find(`k${index}`, 1);
  }
  expect(cache.bytes).toBeLessThanOrEqual(10_000);
  expect(cache.find("k99", 1)).toBeDefined();
  expect(cache.find("k0", 1)).toBeUndefined();
  cache.put("large", entry(20_000));
  expect(cache.bytes).toBeLessThanOrEqual(10_000);
});
