import { readAddresses, removeAddress } from "#kernel/address.ts";
import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { equalIp } from "#net/ip.ts";
import { type ClientIdentity, Conversation, releaseLease } from "./conversation.ts";
import { DatagramPort } from "./datagram-port.ts";
import type { Lease } from "./lease.ts";
import { readLinkLocal } from "./link-local.ts";
import { MessageType } from "./message.ts";

/**
 * Gives addresses back, without waiting for an answer: those that the kernel found with another node as such (DECLINE),
 * the others as free (RELEASE). They are taken from the link before, as RFC 8415 section 18.2.7 wants it.
 */
export function tellServerOfDhcp6(
  { namespace, link }: { readonly namespace: NetworkNamespace; readonly link: Link },
  identity: ClientIdentity,
  lease: Lease,
): void {
  const source = readLinkLocal(namespace, link.ifindex);
  const present = readAddresses(namespace, link.ifindex).filter(({ address }) =>
    lease.addresses.some((each) => equalIp(each.address, address.address)),
  );
  for (const { address } of present) removeAddress(namespace, link.ifindex, address);
  if (!source) return;
  const isTaken = ({ address }: Lease["addresses"][number]) =>
    present.some(({ dadFailed, address: cidr }) => dadFailed && equalIp(cidr.address, address));
  const taken = lease.addresses.filter(isTaken);
  const free = lease.addresses.filter((each) => !isTaken(each));
  using port = DatagramPort.open(namespace.fd, link.ifindex, source);
  if (free.length > 0) releaseLease(port, identity, { ...lease, addresses: free });
  if (taken.length > 0) {
    const { server } = lease;
    const decline = { type: MessageType.Decline, server, addresses: taken, isAboutAddresses: true };
    new Conversation(port, identity).ask(decline);
  }
}
