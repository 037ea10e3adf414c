import type { Asker } from "#dns-resolver/asker.ts";
import type { Handler, Link, Outcome } from "#dns-resolver/chain.ts";
import type { Host, Network, Snapshot } from "#dns-resolver/snapshot.ts";
import { type Answer, encodeAnswer, type OutRecord } from "#dns-resolver/wire/encode.ts";
import { encodeName } from "#dns-resolver/wire/name.ts";
import { Rcode, RecordType } from "#dns-resolver/wire/numbers.ts";
import type { Query } from "#dns-resolver/wire/query.ts";
import { noSuchName, noSuchType, ourTtlSeconds } from "./authority.ts";

/** So many orders of a shared name's addresses are kept; each is as likely to be sent as any other. */
const maxOrders = 8;

/** A name as one container sees it. */
export interface Found {
  /** The first network that knows it. */
  readonly network: string;
  /** By network, in the asker's order. */
  readonly groups: readonly (readonly Host[])[];
}

/**
 * Who answers to a name, for one container: `name` in all its networks, `name.network` in that one. Networks that it is
 * not in are not looked at.
 */
export function findHosts(snapshot: Snapshot, asker: Asker, name: string): Found | undefined {
  const groups: (readonly Host[])[] = [];
  let first: string | undefined;
  for (const networkName of asker.networks) {
    const network = snapshot.network(networkName);
    if (!network) continue;
    const hosts = hostsIn(snapshot, network, name);
    if (hosts.length === 0) continue;
    first ??= networkName;
    groups.push(hosts);
  }
  return first === undefined ? undefined : { network: first, groups };
}

function hostsIn(snapshot: Snapshot, network: Network, name: string): readonly Host[] {
  const short = [...domainsOf(network)].flatMap((domain) =>
    name.length > domain.length + 1 && name.endsWith(`.${domain}`) ? [name.slice(0, -domain.length - 1)] : [],
  );
  return snapshot.named(network.name, [name, ...short]);
}

function* domainsOf(network: Network): Iterable<string> {
  yield network.domain;
  for (const domain of network.domains.keys()) if (domain !== network.domain) yield domain;
}

/** A domain that is the networks' own, as configured: what is not there, is nowhere. */
function isInOwnDomain(snapshot: Snapshot, asker: Asker, name: string): boolean {
  return asker.networks.some((each) => {
    const domains = snapshot.network(each)?.domains.keys() ?? [];
    return [...domains].some((domain) => name === domain || name.endsWith(`.${domain}`));
  });
}

/** Names of containers, in the networks of the one that asks. */
export function local(snapshot: Snapshot): Link {
  return (next: Handler): Handler =>
    (query, asker, reply) => {
      const found = findHosts(snapshot, asker, query.name);
      if (found) {
        reply(answerFor(query, found));
        return;
      }
      const service = findService(snapshot, asker, query.name);
      if (service) {
        reply(answerForService(query, service));
        return;
      }
      if (isInOwnDomain(snapshot, asker, query.name)) {
        reply(noSuchName(query, { kind: "local", network: asker.networks[0] ?? "" }));
        return;
      }
      next(query, asker, reply);
    };
}

function answerFor(query: Query, found: Found): Outcome {
  const { type } = query;
  const families: readonly (4 | 6)[] =
    type === RecordType.A ? [4] : type === RecordType.AAAA ? [6] : type === RecordType.ANY ? [4, 6] : [];
  const groups = families.flatMap((family) =>
    found.groups.map((hosts) => hosts.flatMap((host) => addressRecords(host, family))),
  );
  const count = groups.reduce((sum, group) => sum + group.length, 0);
  const source = { kind: "local", network: found.network } as const;
  if (count === 0) return noSuchType(query, source);
  const encode = (answers: readonly OutRecord[]) => encodeAnswer(query, ours(answers));
  const orders = count === 1 ? 1 : Math.min(count, maxOrders);
  const variants = Array.from({ length: orders }, () => encode(groups.flatMap(shuffled)));
  return {
    message: variants[0] as Uint8Array,
    rcode: Rcode.NoError,
    source,
    keep: { untilMs: Infinity, variants, ttlOffsets: [], bornMs: 0 },
  };
}

export function ours(answers: readonly OutRecord[], additional: readonly OutRecord[] = []): Answer {
  return { rcode: Rcode.NoError, isAuthoritative: true, answers, authority: [], additional };
}

function addressRecords(host: Host, family: 4 | 6, owner?: Uint8Array): readonly OutRecord[] {
  const type = family === 4 ? RecordType.A : RecordType.AAAA;
  return host
    .data(family)
    .map((data) => ({ ...(owner ? { owner } : {}), type, ttlSeconds: ourTtlSeconds, data }));
}

function shuffled<Item>(items: readonly Item[]): readonly Item[] {
  if (items.length < 2) return items;
  const result = [...items];
  for (let index = result.length - 1; index > 0; index--) {
    const other = Math.floor(Math.random() * (index + 1));
    [result[index], result[other]] = [result[other] as Item, result[index] as Item];
  }
  return result;
}

interface Service {
  /** Undefined: a word that only its container could tell the port of. */
  readonly port: number | undefined;
  readonly host: string;
  readonly found: Found;
}

/** `_8080._tcp.name`: RFC 2782's form, with the port itself for the service's name. */
function findService(snapshot: Snapshot, asker: Asker, name: string): Service | undefined {
  if (!name.startsWith("_")) return undefined;
  const [, service, host] = /^_([^.]+)\._(?:tcp|udp|sctp)\.(.+)$/s.exec(name) ?? [];
  const found = host === undefined ? undefined : findHosts(snapshot, asker, host);
  if (!found || service === undefined || host === undefined) return undefined;
  const port = /^\d{1,5}$/.test(service) ? Number(service) : 0;
  return { port: port > 0 && port <= 0xffff ? port : undefined, host, found };
}

/** Each container of that name at its port. What only a container could know does not leave the host either. */
function answerForService(query: Query, { port, host, found }: Service): Outcome {
  const source = { kind: "local", network: found.network } as const;
  if (port === undefined) return noSuchName(query, source);
  if (query.type !== RecordType.SRV && query.type !== RecordType.ANY) return noSuchType(query, source);
  const target = encodeName(host);
  if (!target) return noSuchName(query, source);
  const data = Buffer.concat([Uint8Array.of(0, 0, 0, 0, port >> 8, port & 0xff), target]);
  const hosts = found.groups.flat();
  const answers: readonly OutRecord[] = [{ type: RecordType.SRV, ttlSeconds: ourTtlSeconds, data }];
  const addresses = hosts.flatMap((each) => [
    ...addressRecords(each, 4, target),
    ...addressRecords(each, 6, target),
  ]);
  return {
    message: encodeAnswer(query, ours(answers, shuffled(addresses))),
    rcode: Rcode.NoError,
    source,
  };
}
