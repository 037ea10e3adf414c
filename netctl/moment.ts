import { parseDuration } from "./duration.ts";
import { UsageFailure } from "./failure.ts";

/**
 * A moment as Docker's `--since` and `--until` take it: `10m` ago, seconds since 1970 (`1767603600.5`), a date
 * (`2026-01-05`) or a date with time (RFC 3339; without a zone that of this host).
 * @returns milliseconds since 1970
 * @throws {UsageFailure}
 */
export function parseMoment(text: string, flag: string, nowMs: number): number {
  if (/^\d+(\.\d+)?$/.test(text) && text !== "0") return Number(text) * 1000;
  if (/^\d{4}-\d{2}-\d{2}$/.test(text)) return check(Date.parse(`${text}T00:00:00`), text, flag);
  if (/^\d{4}-/.test(text)) return check(Date.parse(text), text, flag);
  try {
    return nowMs - parseDuration(text, flag);
  } catch {
    return check(Number.NaN, text, flag);
  }
}

function check(ms: number, text: string, flag: string): number {
  if (!Number.isNaN(ms)) return ms;
  throw new UsageFailure(
    `Cannot use ${flag} ${text}: expected a time ago such as 10m, seconds since 1970, or a date such as 2026-01-05T10:00:00Z`,
  );
}
