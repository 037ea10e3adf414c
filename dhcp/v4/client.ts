import { Heard, hear, say } from "#dhcp/hear.ts";
import type { Port } from "#dhcp/port.ts";
import { formatIp, type IpAddress, ipToBytes } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { broadcastAddress, broadcastMac, decodeFrame, encodeFrame } from "./frame.ts";
import { type Lease, readLease } from "./lease.ts";
import { type DhcpMessage, decodeMessage, encodeMessage, MessageType, noAddress, Option } from "./message.ts";
import { readAddresses, readText } from "./option-values.ts";

/** Who asks, and for what. */
export interface ClientIdentity {
  readonly mac: MacAddress;
  /** Servers are to answer to everybody, since the link does not hear what is for an address it has not. */
  readonly broadcast: boolean;
  /** Numbers of the options that servers are asked for. */
  readonly requested: readonly number[];
  /** What they are told, besides; the client identifier among it. */
  readonly provided: ReadonlyMap<number, Uint8Array>;
}

export interface ExchangeOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Seconds since the machine's start, of which leases are told. */
  readonly now: () => number;
}

const [clientPort, serverPort] = [68, 67];
/** RFC 2131 section 4.1 has four seconds at first; a container waits for it. */
const firstPauseMs = 1000;
const longestPauseMs = 8000;
/** How long an offer's server may take to keep its word, and how often it is asked. */
const requestPauseMs = 1500;
const requestTries = 3;

/**
 * Gets a lease: DISCOVER, OFFER, REQUEST, ACK (RFC 2131 section 3.1), again and again until there is one.
 * @param options.address what the client had before and would like again
 * @throws {DhcpError} with what was heard of servers
 */
export async function acquireLease(
  port: Port,
  identity: ClientIdentity,
  options: ExchangeOptions & { readonly address?: IpAddress | undefined },
): Promise<Lease> {
  const startMs = performance.now();
  const deadlineMs = startMs + options.timeoutMs;
  const heard = new Heard("DISCOVER");
  const wish = options.address ? [[Option.RequestedAddress, ipToBytes(options.address)] as const] : [];
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    const transaction = randomTransaction();
    const seconds = Math.floor((performance.now() - startMs) / 1000);
    const discover = request(identity, { type: MessageType.Discover, transaction, seconds, options: wish });
    send(port, identity, discover);
    heard.asked();
    // So that many clients that start together do not go on together.
    const untilMs = Math.min(performance.now() + pauseMs * (0.75 + Math.random() / 2), deadlineMs);
    const offer = await hearAnswer(port, identity, transaction, [MessageType.Offer], { ...options, untilMs });
    if (offer) {
      heard.offered();
      const lease = await requestOffer(port, identity, { offer, seconds, heard, deadlineMs, options });
      if (lease) return lease;
      // A server that offers and refuses is not asked as fast as it answers.
      await hear(port, () => undefined, { ...options, untilMs });
    }
    if (performance.now() >= deadlineMs) throw heard.inVain(options.timeoutMs);
  }
}

async function requestOffer(
  port: Port,
  identity: ClientIdentity,
  round: {
    readonly offer: Answer;
    readonly seconds: number;
    readonly heard: Heard;
    readonly deadlineMs: number;
    readonly options: ExchangeOptions;
  },
): Promise<Lease | undefined> {
  const { offer, seconds, heard, deadlineMs, options } = round;
  const { transaction, yourAddress } = offer.message;
  const [server] = readAddresses(offer.message.options, Option.ServerIdentifier);
  if (!server) {
    heard.refusal = "an offer did not say from which server";
    return undefined;
  }
  const chosen = [
    [Option.RequestedAddress, ipToBytes(yourAddress)],
    [Option.ServerIdentifier, ipToBytes(server)],
  ] as const;
  for (let attempt = 0; attempt < requestTries; attempt++) {
    const sentAt = options.now();
    send(
      port,
      identity,
      request(identity, { type: MessageType.Request, transaction, seconds, options: chosen }),
    );
    const untilMs = Math.min(performance.now() + requestPauseMs, deadlineMs);
    const kinds = [MessageType.Ack, MessageType.Nak];
    const answer = await hearAnswer(port, identity, transaction, kinds, { ...options, untilMs });
    if (!answer) continue;
    if (typeOf(answer.message) === MessageType.Ack) return readLease(answer.message, answer.mac, sentAt);
    const why = readText(answer.message.options, Option.Message);
    heard.refusal = `server ${formatIp(server)} refused ${formatIp(yourAddress)}${why ? `: ${why}` : ""}`;
    return undefined;
  }
  heard.refusal = `server ${formatIp(server)} offered ${formatIp(yourAddress)} and did not answer the request for it`;
  return undefined;
}

/**
 * Asks for more time: the lease's own server, or any ("rebind").
 * @returns "refused" where a server says that the address is no longer the client's; undefined where none answered
 */
export async function renewLease(
  port: Port,
  identity: ClientIdentity,
  lease: Lease,
  options: ExchangeOptions & { readonly mode: "renew" | "rebind" },
): Promise<Lease | "refused" | undefined> {
  const transaction = randomTransaction();
  const sentAt = options.now();
  const message = request(identity, {
    type: MessageType.Request,
    transaction,
    seconds: 0,
    clientAddress: lease.address.address,
    options: [],
  });
  send(port, identity, message, options.mode === "renew" ? lease : undefined);
  const untilMs = performance.now() + options.timeoutMs;
  const kinds = [MessageType.Ack, MessageType.Nak];
  const answer = await hearAnswer(port, identity, transaction, kinds, { ...options, untilMs });
  if (!answer) return undefined;
  return typeOf(answer.message) === MessageType.Ack
    ? readLease(answer.message, answer.mac, sentAt)
    : "refused";
}

/** Gives an address back. Nobody answers that: RFC 2131 section 4.4.6. */
export function releaseLease(port: Port, identity: ClientIdentity, lease: Lease): void {
  const clientId = identity.provided.get(Option.ClientIdentifier);
  const message: DhcpMessage = {
    ...blank(identity, randomTransaction()),
    clientAddress: lease.address.address,
    broadcast: false,
    options: new Map([
      [Option.MessageType, Uint8Array.of(MessageType.Release)],
      [Option.ServerIdentifier, ipToBytes(lease.server)],
      ...(clientId ? [[Option.ClientIdentifier, clientId] as const] : []),
    ]),
  };
  send(port, identity, message, lease);
}

function blank({ mac, broadcast }: ClientIdentity, transaction: number) {
  return {
    isReply: false,
    transaction,
    seconds: 0,
    broadcast,
    clientAddress: noAddress,
    yourAddress: noAddress,
    mac,
  };
}

/** What fits into one Ethernet frame: the largest message that is asked for. */
const maxMessageBytes = 1472;

function request(
  identity: ClientIdentity,
  what: {
    readonly type: number;
    readonly transaction: number;
    readonly seconds: number;
    readonly clientAddress?: IpAddress;
    readonly options: readonly (readonly [number, Uint8Array])[];
  },
): DhcpMessage {
  const size = Buffer.alloc(2);
  size.writeUInt16BE(maxMessageBytes);
  return {
    ...blank(identity, what.transaction),
    seconds: what.seconds,
    clientAddress: what.clientAddress ?? noAddress,
    options: new Map([
      [Option.MessageType, Uint8Array.of(what.type)],
      ...what.options,
      [Option.MaxMessageSize, size],
      [Option.ParameterRequestList, Uint8Array.from(identity.requested)],
      ...identity.provided,
    ]),
  };
}

/** @param lease to its server alone; absent: to all */
function send(port: Port, { mac }: ClientIdentity, message: DhcpMessage, lease?: Lease): void {
  const frame = encodeFrame({
    sourceMac: mac,
    destinationMac: lease?.serverMac ?? broadcastMac,
    source: message.clientAddress,
    destination: lease?.server ?? broadcastAddress,
    sourcePort: clientPort,
    destinationPort: serverPort,
    payload: encodeMessage(message),
  });
  say(port, frame);
}

interface Answer {
  readonly message: DhcpMessage;
  readonly mac: MacAddress;
}

/** Waits for an answer to this transaction; undefined where none comes in time. */
function hearAnswer(
  port: Port,
  { mac }: ClientIdentity,
  transaction: number,
  kinds: readonly number[],
  limits: { readonly untilMs: number; readonly signal?: AbortSignal | undefined },
): Promise<Answer | undefined> {
  const read = (bytes: Uint8Array): Answer | undefined => {
    const frame = decodeFrame(bytes);
    const message = frame && decodeMessage(frame.payload);
    if (!frame || !message?.isReply || message.transaction !== transaction || message.mac !== mac) return;
    return kinds.includes(typeOf(message)) ? { message, mac: frame.sourceMac } : undefined;
  };
  return hear(port, read, limits);
}

function typeOf({ options }: DhcpMessage): number {
  return options.get(Option.MessageType)?.[0] ?? 0;
}

function randomTransaction(): number {
  return Math.floor(Math.random() * 2 ** 32);
}
