import { expect, test } from "vitest";
import { PackedMap } from "./packed-map.ts";

/** The same sequence each time. */
function dice(): (sides: number) => number {
  let state = 1;
  return (sides) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % sides;
  };
}

const contentOf = (map: PackedMap) =>
  new Map([...map.numbers()].map((number) => [map.keyAt(number), map.valueAt(number)]));

test("has what was set last, whatever came and went before", () => {
  const roll = dice();
  const packed = new PackedMap();
  const plain = new Map<string, string>();
  for (let step = 0; step < 20_000; step++) {
    const key = `name/${roll(1000)}`;
    if (roll(3) === 0) expect(packed.delete(key)).toBe(plain.delete(key));
    else {
      const value = `ü${"x".repeat(roll(200))}${step}`;
      packed.set(key, value);
      plain.set(key, value);
    }
  }
  expect(packed.size).toBe(plain.size);
  expect(contentOf(packed)).toEqual(plain);
  for (let index = 0; index < 1000; index++)
    expect(packed.get(`name/${index}`)).toBe(plain.get(`name/${index}`));
});

test("keeps a record's number when its value changes, and takes values larger than a chunk", () => {
  const map = new PackedMap();
  const number = map.set("a", "small");
  map.set("b", "another");
  expect(map.set("a", "y".repeat(1_000_000))).toBe(number);
  expect(map.valueAt(number)).toHaveLength(1_000_000);
  expect(map.get("b")).toBe("another");
  expect(map.get("c")).toBeUndefined();
});

test("gives memory back: what changes ten thousand times takes no more than what is there", () => {
  const map = new PackedMap();
  const bytes = () => process.memoryUsage().arrayBuffers;
  const before = bytes();
  for (let round = 0; round < 100; round++)
    for (let index = 0; index < 1000; index++) map.set(`key${index}`, `${round}`.padEnd(1000));
  // A hundred million bytes were written, a million are there.
  expect(map.size).toBe(1000);
  expect(bytes() - before).toBeLessThan(40_000_000);
});
