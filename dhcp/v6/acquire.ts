import { Heard, hear } from "#dhcp/hear.ts";
import type { Port } from "#dhcp/port.ts";
import type { IpAddress } from "#net/ip.ts";
import { type Association, readAssociations } from "./association.ts";
import { type ClientIdentity, Conversation, nameServer, releaseLease, serverOf } from "./conversation.ts";
import { type Lease, readLease } from "./lease.ts";
import { type DhcpMessage, findOption, MessageType, Option } from "./message.ts";
import { nextPause, retransmission } from "./retransmission.ts";
import { describeStatus, readStatus, StatusCode } from "./status.ts";

export interface AcquireOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Seconds since the machine's start, of which leases are told. */
  readonly now: () => number;
  /** What the client had before and would like again. */
  readonly addresses?: readonly { readonly association: number; readonly address: IpAddress }[];
}

interface Search {
  readonly port: Port;
  readonly identity: ClientIdentity;
  readonly options: AcquireOptions;
  readonly heard: Heard;
  readonly deadlineMs: number;
  wishes: NonNullable<AcquireOptions["addresses"]>;
  /** SOL_MAX_RT, which servers may change: RFC 8415 section 21.24. */
  longestSolicitSeconds: number;
}

/** What a server advertises. */
interface Offer {
  readonly message: DhcpMessage;
  /** 0 to 255, which is to be taken at once. */
  readonly preference: number;
  readonly associations: readonly Association[];
}

/** With somebody else to turn to, a server that does not answer is asked less often than REQ_MAX_RC says. */
const triesWithOthers = 3;

/**
 * Gets a lease: SOLICIT, ADVERTISE, REQUEST, REPLY (RFC 8415 section 18.2.1 and 18.2.2), again and again until there is
 * one. The server with the highest preference is asked first, then the others.
 * @throws {DhcpError} with what was heard of servers
 */
export async function acquireLease(
  port: Port,
  identity: ClientIdentity,
  options: AcquireOptions,
): Promise<Lease> {
  const deadlineMs = performance.now() + options.timeoutMs;
  const search: Search = {
    port,
    identity,
    options,
    heard: new Heard("SOLICIT"),
    deadlineMs,
    wishes: options.addresses ?? [],
    longestSolicitSeconds: retransmission.solicit.longestSeconds,
  };
  for (let pauseSeconds: number | undefined; ; ) {
    const found = await discover(search);
    if (!Array.isArray(found)) return found;
    for (const [index, offer] of found.entries()) {
      const lease = await request(search, offer, { hasOthers: index + 1 < found.length });
      if (lease) return lease;
    }
    // Servers that offer and refuse are not asked as fast as they answer.
    pauseSeconds = nextPause(retransmission.solicit, pauseSeconds);
    const untilMs = Math.min(performance.now() + 1000 * pauseSeconds, deadlineMs);
    await hear(port, () => undefined, { untilMs, signal: options.signal });
    if (performance.now() >= deadlineMs) throw search.heard.inVain(options.timeoutMs);
  }
}

/** @returns a lease that a server gave at once, or the offers, best first @throws {DhcpError} where none came in time */
async function discover(search: Search): Promise<Lease | Offer[]> {
  const { port, identity, options, heard, deadlineMs, wishes } = search;
  const conversation = new Conversation(port, identity);
  for (let pauseSeconds: number | undefined; ; ) {
    const isFirst = pauseSeconds === undefined;
    const limits = { ...retransmission.solicit, longestSeconds: search.longestSolicitSeconds };
    pauseSeconds = nextPause(limits, pauseSeconds, { noEarlier: true });
    const sentAt = options.now();
    conversation.ask({ type: MessageType.Solicit, addresses: wishes });
    heard.asked();
    const untilMs = Math.min(performance.now() + 1000 * pauseSeconds, deadlineMs);
    const offers: Offer[] = [];
    for (;;) {
      const answer = await hear(port, conversation.read, { untilMs, signal: options.signal });
      if (!answer) break;
      if (answer.type === MessageType.Reply) {
        const lease = acceptRapidReply(search, answer, sentAt);
        if (lease) return lease;
        continue;
      }
      const offer = readOffer(search, answer);
      if (!offer) continue;
      offers.push(offer);
      // All who answer to the first are heard, but for one that is to be taken at once; later the first one is good.
      if (offer.preference === 255 || !isFirst) break;
    }
    if (offers.length > 0) {
      return offers.sort((a, b) => b.preference - a.preference || given(b) - given(a));
    }
    if (performance.now() >= deadlineMs) throw heard.inVain(options.timeoutMs);
  }
}

function given({ associations }: Offer): number {
  return associations.filter(({ addresses }) => addresses.length > 0).length;
}

/** @returns undefined for a REPLY that does not say that it commits, or gives too little */
function acceptRapidReply(search: Search, answer: DhcpMessage, sentAt: number): Lease | undefined {
  if (!search.identity.rapidCommit || !findOption(answer.options, Option.RapidCommit)) return undefined;
  return accept(search, answer, sentAt);
}

function readOffer(search: Search, message: DhcpMessage): Offer | undefined {
  const { heard, identity } = search;
  heard.offered();
  const longest = findOption(message.options, Option.LongestSolicitPause);
  const seconds = longest?.length === 4 ? Buffer.from(longest).readUInt32BE() : 0;
  if (seconds >= 60 && seconds <= 86_400) search.longestSolicitSeconds = seconds;
  const status = readStatus(message.options);
  const associations = ownAssociations(identity, message);
  const isEmpty = associations.every(({ addresses }) => addresses.length === 0);
  if (status.code !== StatusCode.Success || isEmpty) {
    const said = status.code === StatusCode.Success ? associations.find(isRefused)?.status : status;
    heard.refusal = `${nameServer(message)} offers no address${said ? ` (${describeStatus(said)})` : ""}`;
    return undefined;
  }
  const preference = findOption(message.options, Option.Preference)?.[0] ?? 0;
  return { message, preference, associations };
}

/** Section 18.2.2 and 18.2.10.1. @returns undefined where the next server, or all again, have to be asked */
async function request(
  search: Search,
  { message: offer, associations }: Offer,
  { hasOthers }: { readonly hasOthers: boolean },
): Promise<Lease | undefined> {
  const { port, identity, options, heard, deadlineMs } = search;
  const conversation = new Conversation(port, identity);
  const addresses = associations.flatMap(({ id, addresses }) =>
    addresses.map(({ address }) => ({ association: id, address })),
  );
  const times = hasOthers ? triesWithOthers : retransmission.request.times;
  let pauseSeconds: number | undefined;
  for (let attempt = 0; attempt < times && performance.now() < deadlineMs; attempt++) {
    pauseSeconds = nextPause(retransmission.request, pauseSeconds);
    const sentAt = options.now();
    conversation.ask({ type: MessageType.Request, server: serverOf(offer), addresses });
    const untilMs = Math.min(performance.now() + 1000 * pauseSeconds, deadlineMs);
    for (;;) {
      const answer = await hear(port, conversation.readReply, { untilMs, signal: options.signal });
      if (!answer) break;
      const status = readStatus(answer.options);
      if (status.code === StatusCode.Success) return accept(search, answer, sentAt);
      heard.refusal = `${nameServer(answer)} refused (${describeStatus(status)})`;
      if (status.code === StatusCode.NotOnLink) search.wishes = [];
      // Everything is multicast anyway, and what is not specified may pass: both are asked again, but not faster.
      if (status.code !== StatusCode.UnspecFail && status.code !== StatusCode.UseMulticast) return undefined;
    }
  }
  heard.refusal ??= `${nameServer(offer)} offered addresses and did not answer the request for them`;
  return undefined;
}

/** The lease, if an address came for every association; what came without the others goes back. */
function accept(search: Search, reply: DhcpMessage, sentAt: number): Lease | undefined {
  const { port, identity, heard } = search;
  const associations = ownAssociations(identity, reply);
  const lease = readLease(reply, associations, sentAt);
  const wanted = identity.associations.length;
  const got = new Set(lease?.addresses.map(({ association }) => association)).size;
  if (lease && got === wanted) return lease;
  const said = [
    ...associations.filter(isRefused).map(({ status }) => status),
    readStatus(reply.options),
  ].find(({ code }) => code !== StatusCode.Success);
  const few = got > 0 ? `gave ${got} of ${wanted} addresses` : "gave no address";
  heard.refusal = `${nameServer(reply)} ${few}${said ? ` (${describeStatus(said)})` : ""}`;
  if (said?.code === StatusCode.NotOnLink) search.wishes = [];
  if (lease) releaseLease(port, identity, lease);
  return undefined;
}

function isRefused({ status }: Association): boolean {
  return status.code !== StatusCode.Success;
}

/** The associations that were asked for, others are not the client's. */
export function ownAssociations(identity: ClientIdentity, { options }: DhcpMessage): readonly Association[] {
  return readAssociations(options).filter(({ id }) => identity.associations.includes(id));
}
