import { readAllAddresses } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { parseIfName } from "#net/ifname.ts";
import { equalIp, type IpAddress, isLinkLocal, parseIp } from "#net/ip.ts";
import type { HostSettings } from "./host-settings.ts";
import type { HostRecord } from "./record.ts";

/** This host as it is now; undefined while its underlay has no address. */
export function readSelf(
  settings: Pick<HostSettings, "hostId" | "name" | "underlay">,
  namespace: NetworkNamespace,
): HostRecord | undefined {
  const { underlay } = settings;
  let device: number | undefined;
  let v4: IpAddress | undefined;
  let v6: IpAddress | undefined;
  if ("device" in underlay) {
    device = readLink(namespace, parseIfName(underlay.device))?.ifindex;
    const addresses = readAllAddresses(namespace)
      .filter((one) => one.ifindex === device)
      .map(({ address }) => address.address);
    v4 = addresses.find((ip) => ip.family === 4);
    v6 = addresses.find((ip) => ip.family === 6 && !isLinkLocal(ip));
  } else {
    v4 = underlay.v4 === undefined ? undefined : parseIp(underlay.v4);
    v6 = underlay.v6 === undefined ? undefined : parseIp(underlay.v6);
    const first = v4 ?? v6;
    device = first && deviceOf(namespace, first);
  }
  const mtu = device === undefined ? undefined : readLink(namespace, device)?.mtu;
  if (mtu === undefined || !(v4 ?? v6)) return undefined;
  const underlayNow = { ...(v4 && { v4 }), ...(v6 && { v6 }) };
  return { v: 1, id: settings.hostId, name: settings.name, underlay: underlayNow, mtu, state: "active" };
}

/** ifindex of the device that has an address. */
export function deviceOf(namespace: NetworkNamespace, ip: IpAddress): number | undefined {
  return readAllAddresses(namespace).find(({ address }) => equalIp(address.address, ip))?.ifindex;
}
