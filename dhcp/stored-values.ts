import * as v from "valibot";
import { ip } from "#cni/schema-values.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";

/** Values that the files of both protocols have. */

/** JSON has no Infinity: what never comes is null. */
export const storedTime = v.union([
  v.number(),
  v.pipe(
    v.null(),
    v.transform(() => Number.POSITIVE_INFINITY),
  ),
]);

export const storedTimes = v.object({
  obtainedAt: storedTime,
  renewAt: storedTime,
  rebindAt: storedTime,
  expiresAt: storedTime,
});

export const storedBytes = v.pipe(
  v.string(),
  v.transform((text): Uint8Array => Uint8Array.from(Buffer.from(text, "base64"))),
);

export function encodeBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

/** What a client tells besides, by the options' numbers. */
export const storedProvided = v.pipe(
  v.array(v.tuple([v.number(), storedBytes])),
  v.transform((pairs): ReadonlyMap<number, Uint8Array> => new Map(pairs)),
);

export function encodeProvided(provided: ReadonlyMap<number, Uint8Array>): object {
  return [...provided].map(([code, value]) => [code, encodeBytes(value)]);
}

export const storedIps = v.array(ip);

export function encodeIps(addresses: readonly IpAddress[]): readonly string[] {
  return addresses.map(formatIp);
}
