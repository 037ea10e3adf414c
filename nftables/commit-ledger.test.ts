import { expect, test } from "vitest";
import { CommitLedger } from "./commit-ledger.ts";

function ledgerAt(generation: number): CommitLedger {
  const ledger = new CommitLedger();
  expect(ledger.hasMissed(generation)).toBe(false);
  return ledger;
}

test("what was told of, in whatever order, is not missed", () => {
  const ledger = ledgerAt(10);
  for (const each of [12, 11, 13]) ledger.hear(each);
  expect([ledger.hasMissed(13), ledger.hasMissed(13)]).toEqual([false, false]);
});

test("what nobody tells of is missed, once, at the second question", () => {
  const ledger = ledgerAt(10);
  ledger.hear(11);
  expect([13, 13, 13].map((each) => ledger.hasMissed(each))).toEqual([false, true, false]);
});

test("what is told late is not", () => {
  const ledger = ledgerAt(10);
  expect(ledger.hasMissed(11)).toBe(false);
  ledger.hear(11);
  expect([11, 11].map((each) => ledger.hasMissed(each))).toEqual([false, false]);
});

test("each late one has its time, and one that is lost among them is found", () => {
  const ledger = ledgerAt(10);
  expect(ledger.hasMissed(11)).toBe(false);
  ledger.hear(11);
  expect(ledger.hasMissed(13)).toBe(false);
  ledger.hear(13);
  expect(ledger.hasMissed(13)).toBe(true);
});

test("what was before a restart is not asked for", () => {
  const ledger = ledgerAt(10);
  expect(ledger.hasMissed(12)).toBe(false);
  ledger.restart();
  expect([12, 12].map((each) => ledger.hasMissed(each))).toEqual([false, false]);
});

test("a counter that has come round is looked at", () => {
  const ledger = ledgerAt(0xffff_fffe);
  expect([3, 3, 3].map((each) => ledger.hasMissed(each))).toEqual([false, true, false]);
});
