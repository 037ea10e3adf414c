import { type Cidr, containsIp, networkOf, parseCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress, ipToBytes } from "#net/ip.ts";
import { keyText, type NamedAttachment, type NameKey } from "./registry.ts";

/** An attachment that answers to a name. Of tens of thousands few are asked for: what can be made is not kept. */
export class Host {
  readonly entry: NamedAttachment;

  constructor(entry: NamedAttachment) {
    this.entry = entry;
  }

  get network(): string {
    return this.entry.network;
  }

  get addresses(): readonly IpAddress[] {
    return this.entry.addresses.map((text) => parseCidr(text).address);
  }

  /** Records' data, in the order of `addresses`. */
  data(family: 4 | 6): readonly Uint8Array[] {
    return this.addresses.filter((each) => each.family === family).map(ipToBytes);
  }
}

/** One network as its members see it. */
export interface Network {
  readonly name: string;
  /** In lower case, as a domain. */
  readonly domain: string;
  /** Besides: as its members were told. */
  readonly domains: ReadonlyMap<string, number>;
  readonly members: ReadonlyMap<string, Host>;
  readonly byName: ReadonlyMap<string, readonly Host[]>;
  /** By `formatIp`. */
  readonly byAddress: ReadonlyMap<string, Host>;
  /** With how many members each has. */
  readonly subnets: ReadonlyMap<string, { readonly cidr: Cidr; readonly members: number }>;
}

interface MutableNetwork extends Network {
  readonly domains: Map<string, number>;
  readonly members: Map<string, Host>;
  readonly byName: Map<string, Host[]>;
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
    const host = new Host(entry);
    network.members.set(key, host);
    for (const name of new Set(entry.names)) {
      const hosts = network.byName.get(name);
      if (hosts) hosts.push(host);
      else network.byName.set(name, [host]);
    }
    for (const { address } of cidrs) network.byAddress.set(formatIp(address), host);
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
    network.members.delete(keyText(key));
    for (const name of new Set(host.entry.names)) {
      const hosts = network.byName.get(name) ?? [];
      const index = hosts.indexOf(host);
      if (index >= 0) hosts.splice(index, 1);
      if (hosts.length === 0) network.byName.delete(name);
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
