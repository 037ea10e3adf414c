import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { type IfName, ifNameProblem } from "#net/ifname.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";
import type { IngressPolicy } from "#nftables/ingress-policy.ts";
import type { FirewallConfig } from "./config.ts";

/** Everything that one ADD makes, as a value. It follows from the request alone. */
export interface Attachment {
  readonly key: AttachmentKey;
  readonly backend: FirewallConfig["backend"];
  readonly adminChain: string;
  readonly zone: string;
  /** What the container may send from. */
  readonly addresses: readonly IpAddress[];
  /** The interface by which the host routes to the container, where the plugins before have named one. */
  readonly device?: IfName;
  /** Of everybody behind `device`. */
  readonly ingressPolicy: "open" | IngressPolicy;
}

/** @throws {CniError} 7 where the previous result does not say what the configuration needs */
export function describeAttachment(input: {
  readonly config: FirewallConfig;
  readonly key: AttachmentKey;
  readonly prevResult: CniResult;
}): Attachment {
  const { config, key, prevResult } = input;
  const { backend, adminChain, zone, ingressPolicy } = config;
  const device = deviceOf(prevResult);
  if (ingressPolicy !== "open" && !device) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use firewall configuration: "ingressPolicy" ${JSON.stringify(ingressPolicy)}: the previous result names no bridge among its interfaces`,
    );
  }
  return {
    key,
    backend,
    adminChain,
    zone,
    addresses: containerAddresses(prevResult),
    ...(device ? { device } : {}),
    ingressPolicy,
  };
}

/** All of the result, but those of the host's own interfaces; each once. */
export function containerAddresses({ ips, interfaces }: CniResult): readonly IpAddress[] {
  const all = ips.flatMap(({ address, interface: index }) => {
    const of = index === undefined ? undefined : interfaces[index];
    return of && !of.sandbox ? [] : [address.address];
  });
  return all.filter((address, index) => all.findIndex((other) => equalIp(other, address)) === index);
}

/** The first interface, as for the reference; in a VLAN of the bridge plugin's, the one that its gateway is on. */
function deviceOf({ interfaces }: CniResult): IfName | undefined {
  const [first] = interfaces;
  if (!first || first.sandbox || ifNameProblem(first.name)) return undefined;
  const inVlan = interfaces.find(
    ({ name, sandbox }) =>
      !sandbox && name.startsWith(`${first.name}.`) && /^\d+$/u.test(name.slice(first.name.length + 1)),
  );
  return (inVlan ?? first).name as IfName;
}
