import { expect, it } from "vitest";
import { parseMoment } from "./moment.ts";

const nowMs = Date.UTC(2026, 0, 5, 10);

it.each([
  ["10m", nowMs - 600_000],
  ["1h30m", nowMs - 5_400_000],
  ["0s", nowMs],
  ["0", nowMs],
  ["1767603600", 1_767_603_600_000],
  ["1767603600.5", 1_767_603_600_500],
  ["2026-01-05T09:00:00Z", nowMs - 3_600_000],
  ["2026-01-05T10:00:00+01:00", nowMs - 3_600_000],
  ["2026-01-05", new Date(2026, 0, 5).getTime()],
])("reads %s as Docker does", (text, ms) => {
  expect(parseMoment(text, "--since", nowMs)).toBe(ms);
});

it.each(["", "soon", "2026-13-45", "10 m", "-5m"])("refuses %j by name", (text) => {
  expect(() => parseMoment(text, "--since", nowMs)).toThrow(
    `Cannot use --since ${text}: expected a time ago`,
  );
});
