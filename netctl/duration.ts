import { UsageFailure } from "./failure.ts";

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Reads `90s`, `1h30m`, `2d`, as Go writes durations, days beside.
 * @returns milliseconds
 * @throws {UsageFailure}
 */
export function parseDuration(text: string, flag: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/gy)];
  const isWhole = parts.map(([part]) => part).join("") === text;
  if (text === "0") return 0;
  if (parts.length > 0 && isWhole) {
    return parts.reduce(
      (sum, [, number = "0", unit = "s"]) => sum + Number(number) * (unitsMs[unit] ?? 0),
      0,
    );
  }
  throw new UsageFailure(`Cannot use ${flag}: expected a time such as 30s, 5m, 1h30m`);
}
