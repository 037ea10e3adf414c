import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import { int, ip } from "#cni/schema-values.ts";
import type { LeaseFormat } from "#dhcp/lease-store.ts";
import {
  encodeBytes,
  encodeIps,
  encodeProvided,
  storedBytes,
  storedIps,
  storedProvided,
  storedTime,
  storedTimes,
} from "#dhcp/stored-values.ts";
import { formatIp } from "#net/ip.ts";
import type { ClientIdentity } from "./conversation.ts";
import type { Lease } from "./lease.ts";

/** How leases of DHCPv6 are written. */
export const leaseFormat: LeaseFormat<ClientIdentity, Lease> = {
  directory: "dhcp6",
  identity: goObject({
    duid: storedBytes,
    associations: v.array(int()),
    requested: v.array(int()),
    provided: storedProvided,
    rapidCommit: v.boolean(),
  }),
  lease: goObject({
    server: storedBytes,
    addresses: v.array(
      goObject({ association: int(), address: ip, preferredUntil: storedTime, validUntil: storedTime }),
    ),
    nameservers: storedIps,
    search: v.array(v.string()),
    timeServers: v.array(v.string()),
    times: storedTimes,
  }),
  encodeIdentity: ({ duid, provided, ...rest }) => ({
    ...rest,
    duid: encodeBytes(duid),
    provided: encodeProvided(provided),
  }),
  encodeLease: ({ server, addresses, nameservers, ...rest }) => ({
    ...rest,
    server: encodeBytes(server),
    addresses: addresses.map(({ address, ...times }) => ({ ...times, address: formatIp(address) })),
    nameservers: encodeIps(nameservers),
  }),
};
