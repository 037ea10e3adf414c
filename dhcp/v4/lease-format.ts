import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import { cidr, int, ip, mac } from "#cni/schema-values.ts";
import type { LeaseFormat } from "#dhcp/lease-store.ts";
import { encodeIps, encodeProvided, storedIps, storedProvided, storedTimes } from "#dhcp/stored-values.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { ClientIdentity } from "./client.ts";
import type { Lease } from "./lease.ts";

const route = v.pipe(
  goObject({ destination: cidr, gateway: v.optional(ip) }),
  v.transform(({ destination, gateway }) => ({ destination, gateway })),
);

const fields = goObject({
  address: cidr,
  server: ip,
  serverMac: mac,
  gateway: v.optional(ip),
  routes: v.array(route),
  nameservers: storedIps,
  domain: v.optional(v.string()),
  search: v.array(v.string()),
  times: storedTimes,
});

/** How leases of DHCPv4 are written. */
export const leaseFormat: LeaseFormat<ClientIdentity, Lease> = {
  directory: "dhcp",
  identity: goObject({ mac, broadcast: v.boolean(), requested: v.array(int()), provided: storedProvided }),
  lease: v.pipe(
    fields,
    v.transform((lease): Lease => ({ ...lease, gateway: lease.gateway, domain: lease.domain })),
  ),
  encodeIdentity: (identity) => ({ ...identity, provided: encodeProvided(identity.provided) }),
  encodeLease: (lease) => ({
    ...lease,
    address: formatCidr(lease.address),
    server: formatIp(lease.server),
    gateway: lease.gateway && formatIp(lease.gateway),
    routes: lease.routes.map(({ destination, gateway }) => ({
      destination: formatCidr(destination),
      gateway: gateway && formatIp(gateway),
    })),
    nameservers: encodeIps(lease.nameservers),
  }),
};
