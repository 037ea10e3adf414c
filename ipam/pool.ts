import { addToIp, equalIp, type IpAddress } from "#net/ip.ts";
import { type AddressRange, commonRanges, excludedValues, type RangeSet, rangeContains } from "./range.ts";

/** An address of a set with the range that it is in. */
export interface Candidate {
  readonly ip: IpAddress;
  readonly range: AddressRange;
}

/**
 * The addresses of a set in the order in which they are tried: from the one after `last`, which was given out most
 * recently, through all ranges and round to `last` itself. An address that was freed so comes back as late as can be.
 * Begins at the start of the first range if there is no `last`, or none of this set. Ends after one round; a /8 or a
 * /64 costs nothing until its addresses are asked for.
 */
export function* candidates(whole: RangeSet, last: IpAddress | undefined): Generator<Candidate> {
  const set = commonRanges(whole);
  const foundIndex = last ? set.findIndex((range) => rangeContains(range, last)) : -1;
  const firstIndex = Math.max(foundIndex, 0);
  const firstRange = set[firstIndex];
  if (!firstRange) return;
  const resumed = last && foundIndex >= 0 ? last : undefined;
  const excluded = excludedValues(whole);
  const usable = ({ ip }: Candidate) => !excluded.has(ip.value);

  yield* filter(addresses(firstRange, resumed ? after(firstRange, resumed) : firstRange.start), usable);
  for (let step = 1; step < set.length; step++) {
    const range = set[(firstIndex + step) % set.length];
    if (range) yield* filter(addresses(range, range.start), usable);
  }
  if (resumed) yield* filter(addresses(firstRange, firstRange.start, resumed), usable);
}

/** The next address of the range; `undefined` at its end. */
function after(range: AddressRange, ip: IpAddress): IpAddress | undefined {
  return equalIp(ip, range.end) ? undefined : addToIp(ip, 1);
}

function* addresses(range: AddressRange, from: IpAddress | undefined, to = range.end): Generator<Candidate> {
  for (let ip = from; ip !== undefined; ip = equalIp(ip, to) ? undefined : addToIp(ip, 1))
    yield { ip, range };
}

function* filter(all: Generator<Candidate>, isWanted: (each: Candidate) => boolean): Generator<Candidate> {
  for (const each of all) if (isWanted(each)) yield each;
}

/** What asks for addresses by number is spread over the sets; `undefined` stands for "any" (pure). */
export function assignRequested(
  sets: readonly RangeSet[],
  requested: readonly IpAddress[],
): { readonly perSet: readonly (IpAddress | undefined)[]; readonly left: readonly IpAddress[] } {
  const left = requested.filter((ip, index) => requested.findIndex((each) => equalIp(each, ip)) === index);
  const perSet = sets.map((set) => {
    const index = left.findIndex((ip) => set.some((range) => rangeContains(range, ip)));
    return index < 0 ? undefined : left.splice(index, 1)[0];
  });
  return { perSet, left };
}
