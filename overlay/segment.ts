import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import type { KnownEndpoint } from "./view.ts";

/** A container as others reach it: its host, and what nobody has told of later. The same object until that is another. */
export interface Resident {
  readonly host: string;
  readonly mac: MacAddress;
  readonly ips: readonly IpAddress[];
}

/**
 * The containers of a stretched network, all hosts'. Of two that say they have an address the later one has it, whatever
 * the earlier one's host does or fails to do: so a container may move, and a goodbye that comes late takes nothing away.
 * A change costs what shares an address with it.
 */
export class Segment {
  /** By key. */
  readonly #endpoints = new Map<string, KnownEndpoint>();
  /** By MAC address and by IP address. */
  readonly #claims = new Map<string, readonly KnownEndpoint[]>();
  /** By key, in the order in which they came. */
  readonly #residents = new Map<string, Resident>();

  get endpoints(): ReadonlyMap<string, KnownEndpoint> {
    return this.#endpoints;
  }

  /** Those that have their MAC address, so that there is a way to them. */
  get residents(): Iterable<Resident> {
    return this.#residents.values();
  }

  put(endpoint: KnownEndpoint): void {
    const { key } = endpoint.entry;
    const rivals = this.#leave(key);
    this.#endpoints.set(key, endpoint);
    for (const place of placesOf(endpoint)) {
      const claims = this.#claims.get(place) ?? [];
      for (const { entry } of claims) rivals.add(entry.key);
      this.#claims.set(place, [...claims, endpoint].sort(byTime));
    }
    this.#settle(rivals.add(key));
  }

  delete(key: string): void {
    this.#settle(this.#leave(key).add(key));
  }

  /** @returns keys of those that shared a place with it */
  #leave(key: string): Set<string> {
    const rivals = new Set<string>();
    const endpoint = this.#endpoints.get(key);
    if (!endpoint) return rivals;
    this.#endpoints.delete(key);
    for (const place of placesOf(endpoint)) {
      const left = this.#claims.get(place)?.filter((each) => each !== endpoint) ?? [];
      for (const { entry } of left) rivals.add(entry.key);
      if (left.length > 0) this.#claims.set(place, left);
      else this.#claims.delete(place);
    }
    return rivals;
  }

  #settle(keys: Iterable<string>): void {
    for (const key of keys) {
      const endpoint = this.#endpoints.get(key);
      const resident = endpoint && this.#residentOf(endpoint);
      const known = this.#residents.get(key);
      if (!resident) this.#residents.delete(key);
      else if (!known || !isSame(known, resident)) this.#residents.set(key, resident);
    }
  }

  #residentOf(endpoint: KnownEndpoint): Resident | undefined {
    const { host, record } = endpoint;
    const has = (place: string) => this.#claims.get(place)?.at(-1) === endpoint;
    if (!has(record.mac)) return undefined;
    return { host, mac: record.mac, ips: record.ips.filter((ip) => has(formatIp(ip))) };
  }
}

function placesOf({ record }: KnownEndpoint): ReadonlySet<string> {
  return new Set([record.mac, ...record.ips.map(formatIp)]);
}

/** What one commit has written is of one moment: then any order will do that all hosts see. */
function byTime(a: KnownEndpoint, b: KnownEndpoint): number {
  return a.entry.revision - b.entry.revision || (a.entry.key < b.entry.key ? -1 : 1);
}

function isSame(a: Resident, b: Resident): boolean {
  return (
    a.host === b.host &&
    a.mac === b.mac &&
    a.ips.length === b.ips.length &&
    a.ips.every((ip, index) => {
      const other = b.ips[index];
      return other !== undefined && equalIp(ip, other);
    })
  );
}
