import { hear } from "#dhcp/hear.ts";
import type { Extension, Question } from "#dhcp/lease-protocol.ts";
import type { Port } from "#dhcp/port.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";
import { ownAssociations } from "./acquire.ts";
import type { Association } from "./association.ts";
import { type ClientIdentity, Conversation, nameServer, serverOf } from "./conversation.ts";
import { hasAddress, type Lease, leasedAddresses, leaseTimes } from "./lease.ts";
import { type DhcpMessage, MessageType } from "./message.ts";
import { nextPause, type RetransmissionLimits, retransmission } from "./retransmission.ts";
import { describeStatus, readStatus, StatusCode } from "./status.ts";

/** For an answer, after which the keeper waits for its next try. */
const answerTimeoutMs = 3000;

/** Asks the lease's server (RENEW) or all (REBIND) for more time: RFC 8415 section 18.2.4 and 18.2.5. */
export async function extendLease(
  port: Port,
  identity: ClientIdentity,
  lease: Lease,
  { mode, now, elapsedSeconds }: Question,
): Promise<Extension<Lease>> {
  const isRenewal = mode === "renew";
  const conversation = new Conversation(port, identity, elapsedSeconds);
  let sentAt = now();
  conversation.ask({
    type: isRenewal ? MessageType.Renew : MessageType.Rebind,
    server: isRenewal ? lease.server : undefined,
    addresses: lease.addresses,
  });
  let reply = await hearReply(port, conversation);
  if (reply && lacksBinding(identity, reply)) {
    // It has forgotten them, and may give them again: section 18.2.10.1.
    const request = new Conversation(port, identity);
    sentAt = now();
    request.ask({ type: MessageType.Request, server: serverOf(reply), addresses: lease.addresses });
    reply = await hearReply(port, request);
  }
  if (!reply) return { outcome: "silence", why: "no server has answered" };
  return merge(identity, lease, reply, sentAt);
}

function hearReply(port: Port, conversation: Conversation): Promise<DhcpMessage | undefined> {
  return hear(port, conversation.readReply, { untilMs: performance.now() + answerTimeoutMs });
}

function lacksBinding(identity: ClientIdentity, reply: DhcpMessage): boolean {
  return ownAssociations(identity, reply).some(({ status }) => status.code === StatusCode.NoBinding);
}

/** The lease with what an answer says of its addresses. Those of which it says nothing stay as they are. */
function merge(identity: ClientIdentity, lease: Lease, reply: DhcpMessage, sentAt: number): Extension<Lease> {
  const associations = ownAssociations(identity, reply);
  const said = [readStatus(reply.options), ...associations.map(({ status }) => status)].find(
    ({ code }) => code !== StatusCode.Success,
  );
  const renewed = leasedAddresses(associations, sentAt);
  const addresses = lease.addresses.flatMap((before) => {
    const after = renewed.find(({ address }) => equalIp(address, before.address));
    return after ?? (isTakenBack(associations, before.address) ? [] : before);
  });
  const isExtended = renewed.some(({ address }) => hasAddress(lease, address));
  if (addresses.length === 0) return { outcome: "lost", why: `${nameServer(reply)} has taken them back` };
  if (!isExtended && addresses.length === lease.addresses.length) {
    const why = said
      ? describeStatus(said)
      : renewed.length > 0
        ? "it gives other addresses"
        : "it says nothing of them";
    return { outcome: "silence", why: `${nameServer(reply)} does not extend it: ${why}` };
  }
  const times = isExtended
    ? leaseTimes(associations, addresses, sentAt)
    : { ...lease.times, expiresAt: Math.min(...addresses.map(({ validUntil }) => validUntil)) };
  return { outcome: "extended", lease: { ...lease, server: serverOf(reply), addresses, times } };
}

/** A valid lifetime of 0: section 18.2.10.1. */
function isTakenBack(associations: readonly Association[], address: IpAddress): boolean {
  return associations.some(({ addresses }) =>
    addresses.some((each) => each.validSeconds === 0 && equalIp(each.address, address)),
  );
}

/** Asks whether the addresses are right for the link (CONFIRM): section 18.2.3. */
export async function confirmLease(
  port: Port,
  identity: ClientIdentity,
  lease: Lease,
): Promise<Extension<Lease>> {
  const conversation = new Conversation(port, identity);
  const question = { type: MessageType.Confirm, addresses: lease.addresses, isAboutAddresses: true };
  const reply = await repeat(port, conversation, question, retransmission.confirm);
  if (!reply) return { outcome: "silence", why: "no server has answered" };
  const status = readStatus(reply.options);
  if (status.code === StatusCode.Success) return { outcome: "confirmed" };
  const why = `${nameServer(reply)}: ${describeStatus(status)}`;
  return status.code === StatusCode.NotOnLink ? { outcome: "lost", why } : { outcome: "silence", why };
}

/**
 * Tells the server that somebody else on the link has these addresses (DECLINE): section 18.2.8.
 * @returns when it has answered, or will not
 */
export async function declineAddresses(
  port: Port,
  identity: ClientIdentity,
  { server }: Lease,
  addresses: Lease["addresses"],
  options: { readonly signal?: AbortSignal; readonly times?: number } = {},
): Promise<void> {
  const conversation = new Conversation(port, identity);
  const question = { type: MessageType.Decline, server, addresses, isAboutAddresses: true };
  const limits = {
    ...retransmission.decline,
    ...(options.times === undefined ? {} : { times: options.times }),
  };
  await repeat(port, conversation, question, limits, options.signal);
}

async function repeat(
  port: Port,
  conversation: Conversation,
  question: Parameters<Conversation["ask"]>[0],
  limits: RetransmissionLimits,
  signal?: AbortSignal,
): Promise<DhcpMessage | undefined> {
  const endMs = performance.now() + 1000 * (limits.durationSeconds ?? Number.POSITIVE_INFINITY);
  let pauseSeconds: number | undefined;
  for (let sent = 0; sent < (limits.times ?? Number.POSITIVE_INFINITY); sent++) {
    pauseSeconds = nextPause(limits, pauseSeconds);
    conversation.ask(question);
    const untilMs = Math.min(performance.now() + 1000 * pauseSeconds, endMs);
    const reply = await hear(port, conversation.readReply, { untilMs, signal });
    if (reply || performance.now() >= endMs) return reply;
  }
  return undefined;
}
