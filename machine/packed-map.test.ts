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

test("tells which records another does not have so", () => {
  const roll = dice();
  const maps = [new PackedMap(), new PackedMap()] as const;
  const plain = maps.map(() => new Map<string, string>());
  for (let step = 0; step < 30_000; step++) {
    const key = `name/ü${roll(2000)}`;
    const which = roll(2);
    const value = `value ${roll(3)}`;
    if (roll(5) === 0) {
      maps[which]?.delete(key);
      plain[which]?.delete(key);
    } else {
      maps[which]?.set(key, value);
      plain[which]?.set(key, value);
    }
  }
  for (const [mine, its] of [
    [0, 1],
    [1, 0],
  ] as const) {
    const unlike = [...(plain[mine] ?? [])].filter(([key, value]) => plain[its]?.get(key) !== value);
    expect(unlike.length).toBeGreaterThan(500);
    expect(unlike.length).toBeLessThan(1800);
    expect([...maps[mine].keysUnlike(maps[its])].sort()).toEqual(unlike.map(([key]) => key).sort());
  }
});
