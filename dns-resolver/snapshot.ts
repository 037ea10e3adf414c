import { type Cidr, containsIp, networkOf, parseCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress, ipToBytes } from "#net/ip.ts";
import { keyText, type NamedAttachment, type NameKey } from "./registry.ts";

/** An attachment that answers to a name. */
export interface Host {
  readonly key: string;
  readonly entry: NamedAttachment;
  readonly network: string;
  readonly addresses: readonly IpAddress[];
  /** Records' data, in the order of `addresses`. */
  readonly data4: readonly Uint8Array[];
  readonly data6: readonly Uint8Array[];
}

/** One network as its members see it. */
export interface Network {
  readonly name: string;
  /** In lower case, as a domain. */
  readonly domain: string;
  /** Besides: as its members were told. */
  readonly domains: ReadonlyMap<string, number>;
  readonly members: ReadonlyMap<string, Host>;
  readonly byName: ReadonlyMap<string, ReadonlySet<Host>>;
  /** By `formatIp`. */
  readonly byAddress: ReadonlyMap<string, Host>;
  /** With how many members each has. */
  readonly subnets: ReadonlyMap<string, { readonly cidr: Cidr; readonly members: number }>;
}

interface MutableNetwork extends Network {
  readonly domains: Map<string, number>;
  readonly members: Map<string, Host>;
  readonly byName: Map<string, Set<Host>>;
  readonly byAddress: Map<string, Host>;
  readonly subnets: Map<string, { cidr: Cidr; members: number }>;
}

/** All names there are, by network. Changed in place: a change costs the same however many there are. */
export class Snapshot {
  readonly #networks = new Map<string, MutableNetwork>();

  network(name: string): Network | undefined {
    return this.#networks.get(name);
  }

  networks(): IterableIterator<Network> {
    return this.#networks.values();
  }

  add(entry: NamedAttachment): Host {
    this.remove(entry);
    const key = keyText(entry);
    const network = this.#ensure(entry.network);
    const cidrs = entry.addresses.map(parseCidr);
    const addresses = cidrs.map(({ address }) => address);
    const dataOf = (family: 4 | 6) => addresses.filter((each) => each.family === family).map(ipToBytes);
    const host: Host = { key, entry, network: entry.network, addresses, data4: dataOf(4), data6: dataOf(6) };
    network.members.set(key, host);
    for (const name of entry.names) {
      const hosts = network.byName.get(name);
      if (hosts) hosts.add(host);
      else network.byName.set(name, new Set([host]));
    }
    for (const address of addresses) network.byAddress.set(formatIp(address), host);
    for (const cidr of cidrs) {
      const subnet = networkOf(cidr);
      const text = subnetText(subnet);
      const known = network.subnets.get(text);
      if (known) known.members += 1;
      else network.subnets.set(text, { cidr: subnet, members: 1 });
    }
    if (entry.domain !== undefined)
      network.domains.set(entry.domain, (network.domains.get(entry.domain) ?? 0) + 1);
    return host;
  }

  remove(key: NameKey): void {
    const network = this.#networks.get(key.network);
    const host = network?.members.get(keyText(key));
    if (!network || !host) return;
    network.members.delete(host.key);
    for (const name of host.entry.names) {
      const hosts = network.byName.get(name);
      hosts?.delete(host);
      if (hosts?.size === 0) network.byName.delete(name);
    }
    for (const address of host.addresses) {
      const text = formatIp(address);
      if (network.byAddress.get(text) === host) network.byAddress.delete(text);
    }
    for (const text of host.entry.addresses) {
      const subnet = subnetText(networkOf(parseCidr(text)));
      const known = network.subnets.get(subnet);
      if (known && --known.members === 0) network.subnets.delete(subnet);
    }
    const { domain } = host.entry;
    if (domain !== undefined) {
      const left = (network.domains.get(domain) ?? 1) - 1;
      if (left > 0) network.domains.set(domain, left);
      else network.domains.delete(domain);
    }
    if (network.members.size === 0) this.#networks.delete(network.name);
  }

  #ensure(name: string): MutableNetwork {
    let network = this.#networks.get(name);
    if (!network) {
      network = {
        name,
        domain: name.toLowerCase(),
        domains: new Map(),
        members: new Map(),
        byName: new Map(),
        byAddress: new Map(),
        subnets: new Map(),
      };
      this.#networks.set(name, network);
    }
    return network;
  }
}

function subnetText({ address, prefixLength }: Cidr): string {
  return `${formatIp(address)}/${prefixLength}`;
}

/** Whether the address is one that only members of the network can have. */
export function isOfNetwork(network: Network, address: IpAddress): boolean {
  for (const { cidr } of network.subnets.values()) {
    if (cidr.address.family === address.family && containsIp(cidr, address)) return true;
  }
  return false;
}
