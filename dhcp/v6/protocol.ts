import type { LeaseProtocol } from "#dhcp/lease-protocol.ts";
import { readAddresses, removeAddress } from "#kernel/address.ts";
import { equalIp, formatIp } from "#net/ip.ts";
import type { ClientIdentity } from "./conversation.ts";
import { DatagramPort } from "./datagram-port.ts";
import { confirmLease, extendLease } from "./extend.ts";
import { hasAddress, type Lease, unexpired } from "./lease.ts";
import { leaseFormat } from "./lease-format.ts";
import { readLinkLocal } from "./link-local.ts";
import { nextPause, retransmission } from "./retransmission.ts";

/** DHCP for IPv6, as the keeper sees it. */
export const dhcp6: LeaseProtocol<ClientIdentity, Lease> = {
  name: "DHCPv6",
  format: leaseFormat,
  canConfirm: true,
  describe: ({ addresses }) => addresses.map(({ address }) => formatIp(address)).join(", "),
  openPort(namespace, { ifindex }) {
    const source = readLinkLocal(namespace, ifindex);
    return source && DatagramPort.open(namespace.fd, ifindex, source);
  },
  extend: (port, identity, lease, question) =>
    question.mode === "confirm"
      ? confirmLease(port, identity, lease)
      : extendLease(port, identity, lease, question),
  pauseSeconds: ({ rebindAt }, { now, previousSeconds }) =>
    nextPause(now < rebindAt ? retransmission.renew : retransmission.rebind, previousSeconds),
  remaining: unexpired,
  /** Addresses alone go: the link has others, by router advertisements or DHCP for IPv4. */
  withdraw(namespace, { ifindex }, { before, after }) {
    const gone = before.addresses.filter(({ address }) => !after || !hasAddress(after, address));
    for (const { address } of readAddresses(namespace, ifindex)) {
      if (gone.some((each) => equalIp(each.address, address.address)))
        removeAddress(namespace, ifindex, address);
    }
  },
};
