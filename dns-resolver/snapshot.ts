import { HashIndex, hashText } from "#machine/hash-index.ts";
import { PackedMap } from "#machine/packed-map.ts";
import { type Cidr, containsIp, networkOf, parseCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress, ipToBytes } from "#net/ip.ts";
import { keyText, type NamedAttachment, type NameKey } from "./registry.ts";

/** An attachment that answers to a name. */
export class Host {
  readonly names: readonly string[];
  readonly addresses: readonly IpAddress[];

  constructor({ names, addresses }: Kept) {
    this.names = names;
    this.addresses = addresses.map((text) => parseCidr(text).address);
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
  /** With how many members each has. */
  readonly subnets: ReadonlyMap<string, { readonly cidr: Cidr; readonly members: number }>;
}

interface MutableNetwork extends Network {
  members: number;
  readonly domains: Map<string, number>;
  readonly subnets: Map<string, Subnet>;
  /** The one that was found last: the next member is of the same nearly always. */
  lastSubnet: Subnet | undefined;
}

interface Subnet {
  readonly cidr: Cidr;
  members: number;
}

/** What is kept of an attachment, as JSON. */
type Kept = Pick<NamedAttachment, "names" | "addresses" | "domain">;

/**
 * All names there are, by network. Changed in place: a change costs the same however many there are. Of tens of thousands
 * few are asked for, so they are kept as bytes, and a host is made when it is asked for.
 */
export class Snapshot {
  readonly #networks = new Map<string, MutableNetwork>();
  /** By `keyText`. */
  readonly #members = new PackedMap();
  /** Numbers of members, by network and name, and by network and address. */
  readonly #byName = new HashIndex();
  readonly #byAddress = new HashIndex();

  network(name: string): Network | undefined {
    return this.#networks.get(name);
  }

  /** Who has one of these names in a network, each once. */
  named(network: string, names: readonly string[]): readonly Host[] {
    const hosts = new Map<number, Host>();
    for (const name of names)
      for (const number of this.#byName.all(hashText(`${network}/${name}`))) {
        if (hosts.has(number) || !this.#isOf(number, network)) continue;
        const kept = this.#read(number);
        if (kept.names.includes(name)) hosts.set(number, new Host(kept));
      }
    return [...hosts.values()];
  }

  /** Who has an address in a network; the last one that came with it. */
  at(network: string, address: IpAddress): Host | undefined {
    const number = this.#numberAt(network, formatIp(address));
    return number === undefined ? undefined : new Host(this.#read(number));
  }

  add(entry: NamedAttachment): void {
    this.remove(entry);
    const { names, addresses, domain } = entry;
    const kept: Kept = { names, addresses, ...(domain === undefined ? {} : { domain }) };
    const cidrs = addresses.map(parseCidr);
    const network = this.#ensure(entry.network);
    const number = this.#members.set(keyText(entry), JSON.stringify(kept));
    network.members += 1;
    for (const name of new Set(names)) this.#byName.add(hashText(`${entry.network}/${name}`), number);
    for (const text of new Set(addresses.map(addressText))) {
      const hash = hashText(`${entry.network}/${text}`);
      const before = this.#numberAt(entry.network, text);
      if (before !== undefined) this.#byAddress.remove(hash, before);
      this.#byAddress.add(hash, number);
    }
    for (const cidr of cidrs) subnetOf(network, cidr).members += 1;
    if (domain !== undefined) network.domains.set(domain, (network.domains.get(domain) ?? 0) + 1);
  }

  remove(key: NameKey): void {
    const network = this.#networks.get(key.network);
    const number = network && this.#members.numberOf(keyText(key));
    if (!network || number === undefined) return;
    const { names, addresses, domain } = this.#read(number);
    this.#members.delete(keyText(key));
    network.members -= 1;
    for (const name of new Set(names)) this.#byName.remove(hashText(`${key.network}/${name}`), number);
    for (const cidr of addresses.map(parseCidr)) {
      this.#byAddress.remove(hashText(`${key.network}/${formatIp(cidr.address)}`), number);
      const subnet = subnetOf(network, cidr);
      if (--subnet.members > 0) continue;
      network.subnets.delete(subnetText(subnet.cidr));
      network.lastSubnet = undefined;
    }
    if (domain !== undefined) {
      const left = (network.domains.get(domain) ?? 1) - 1;
      if (left > 0) network.domains.set(domain, left);
      else network.domains.delete(domain);
    }
    if (network.members === 0) this.#networks.delete(network.name);
  }

  #read(number: number): Kept {
    return JSON.parse(this.#members.valueAt(number)) as Kept;
  }

  #isOf(number: number, network: string): boolean {
    return this.#members.keyAt(number).startsWith(`${network}/`);
  }

  /** @param address as `formatIp` has it */
  #numberAt(network: string, address: string): number | undefined {
    return this.#byAddress.find(
      hashText(`${network}/${address}`),
      (number) =>
        this.#isOf(number, network) &&
        this.#read(number).addresses.some((text) => addressText(text) === address),
    );
  }

  #ensure(name: string): MutableNetwork {
    let network = this.#networks.get(name);
    if (!network) {
      network = {
        name,
        domain: name.toLowerCase(),
        domains: new Map(),
        members: 0,
        subnets: new Map(),
        lastSubnet: undefined,
      };
      this.#networks.set(name, network);
    }
    return network;
  }
}

/** Of `10.1.0.2/24` the address, as `formatIp` has it. IPv4 is written in one way alone. */
function addressText(cidr: string): string {
  return cidr.includes(":") ? formatIp(parseCidr(cidr).address) : cidr.slice(0, cidr.indexOf("/"));
}

/** The one that an address is in; one without members where there is none yet. */
function subnetOf(network: MutableNetwork, cidr: Cidr): Subnet {
  const last = network.lastSubnet;
  if (last?.cidr.prefixLength === cidr.prefixLength && containsIp(last.cidr, cidr.address)) return last;
  const subnet = networkOf(cidr);
  const text = subnetText(subnet);
  const known = network.subnets.get(text) ?? { cidr: subnet, members: 0 };
  network.subnets.set(text, known);
  network.lastSubnet = known;
  return known;
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
