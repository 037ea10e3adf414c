import type { Extension, LeaseProtocol } from "#dhcp/lease-protocol.ts";
import { removeAddress } from "#kernel/address.ts";
import { changeLink } from "#kernel/link.ts";
import { formatCidr } from "#net/cidr.ts";
import { equalIp } from "#net/ip.ts";
import { type ClientIdentity, renewLease } from "./client.ts";
import type { Lease } from "./lease.ts";
import { leaseFormat } from "./lease-format.ts";
import { LinkPort } from "./link-port.ts";

/** For an answer of the server. */
const answerTimeoutMs = 3000;
/** RFC 2131 section 4.4.5: at least that long between two tries, where the lease is long enough. */
const usualPauseSeconds = 60;

/** DHCP for IPv4, as the keeper sees it. */
export const dhcp4: LeaseProtocol<ClientIdentity, Lease> = {
  name: "DHCP",
  format: leaseFormat,
  canConfirm: false,
  describe: ({ address }) => formatCidr(address),
  openPort: (namespace, { ifindex }) => LinkPort.open(namespace.fd, ifindex),
  async extend(port, identity, lease, { mode, now }): Promise<Extension<Lease>> {
    const answer = await renewLease(port, identity, lease, {
      mode: mode === "rebind" ? "rebind" : "renew",
      timeoutMs: answerTimeoutMs,
      now,
    });
    if (answer === undefined) return { outcome: "silence", why: "no server has answered" };
    if (answer === "refused") return { outcome: "lost", why: "its server has taken it back" };
    return equalIp(answer.address.address, lease.address.address)
      ? { outcome: "extended", lease: answer }
      : { outcome: "lost", why: `the server has given ${formatCidr(answer.address)} instead` };
  },
  /** Half of the time to the next point at which more servers are asked, or to the end. */
  pauseSeconds({ rebindAt, expiresAt, obtainedAt }, { now }) {
    const limit = now < rebindAt ? rebindAt : expiresAt;
    const least = Math.min(usualPauseSeconds, (expiresAt - obtainedAt) / 20);
    return Math.max((limit - now) / 2, least, 1);
  },
  remaining: () => undefined,
  /** The interface goes down, as in the reference; alone the address, where it has others by DHCPv6. */
  withdraw(namespace, { ifindex }, { before, after, isShared }) {
    if (after) return;
    if (isShared) removeAddress(namespace, ifindex, before.address);
    else changeLink(namespace, ifindex, { up: false });
  },
};
