import { type Cidr, networkOf } from "#net/cidr.ts";
import { type IpAddress, ipToBytes } from "#net/ip.ts";

/**
 * Where things stand in the engine. Addresses in keys are hexadecimal digits of fixed width, so that keys sort as
 * addresses do. Each line is one fact, written by one side:
 *
 *     cluster                              what all hosts share; whoever is first
 *     pools                                which subnets are taken; changed with each network
 *     net/NAME                             a network
 *     vni/NUMBER                           whose number that is
 *     host/HOST                            a host: address, MTU, keys; that host alone, or an operator who removes it
 *     left/HOST                            an operator has removed that host, and when; until it comes back, or for a month
 *     vtep/ADDRESS                         which host has that underlay address
 *     live/HOST                            the host's session; goes with its lease. A hint, and the fence of its writes
 *     block/NAME/FAMILY/ADDRESS-LENGTH     which host hands out these addresses
 *     name/NAME/HOST/ATTACHMENT            what a container is called, in a network whose names reach over all hosts;
 *                                          its host alone, and only while its session holds
 *     ep/NAME/HOST/ATTACHMENT              where a container of a stretched network is: addresses, MAC; likewise
 *     bulk/HOST/ID                         that host is asked to send something through a tunnel, for a test of the way;
 *                                          goes within seconds, or with its lease
 */
export class Keys {
  /** Ends with a slash. */
  readonly prefix: string;

  constructor(cluster: string) {
    this.prefix = `/netctl/v1/${cluster}/`;
  }

  get cluster(): string {
    return `${this.prefix}cluster`;
  }

  get pools(): string {
    return `${this.prefix}pools`;
  }

  network(name: string): string {
    return `${this.networks}${name}`;
  }

  get networks(): string {
    return `${this.prefix}net/`;
  }

  vni(vni: number): string {
    return `${this.prefix}vni/${String(vni).padStart(8, "0")}`;
  }

  host(id: string): string {
    return `${this.hosts}${id}`;
  }

  get hosts(): string {
    return `${this.prefix}host/`;
  }

  left(id: string): string {
    return `${this.lefts}${id}`;
  }

  get lefts(): string {
    return `${this.prefix}left/`;
  }

  vtep(ip: IpAddress): string {
    return `${this.vteps}${hex(ip)}`;
  }

  get vteps(): string {
    return `${this.prefix}vtep/`;
  }

  live(id: string): string {
    return `${this.lives}${id}`;
  }

  get lives(): string {
    return `${this.prefix}live/`;
  }

  get blocks(): string {
    return `${this.prefix}block/`;
  }

  blocksOf(network: string): string {
    return `${this.blocks}${network}/`;
  }

  get names(): string {
    return `${this.prefix}name/`;
  }

  namesOf(network: string): string {
    return `${this.names}${network}/`;
  }

  namesOn(network: string, host: string): string {
    return `${this.namesOf(network)}${host}/`;
  }

  get endpoints(): string {
    return `${this.prefix}ep/`;
  }

  endpointsOf(network: string): string {
    return `${this.endpoints}${network}/`;
  }

  endpointsOn(network: string, host: string): string {
    return `${this.endpointsOf(network)}${host}/`;
  }

  get bulks(): string {
    return `${this.prefix}bulk/`;
  }

  /** Of a host, by others. */
  bulkAskedOf(host: string): string {
    return `${this.bulks}${host}/`;
  }

  block(network: string, cidr: Cidr): string {
    const { address, prefixLength } = networkOf(cidr);
    return `${this.blocksOf(network)}${address.family}/${hex(address)}-${prefixLength}`;
  }
}

function hex(ip: IpAddress): string {
  return Buffer.from(ipToBytes(ip)).toString("hex");
}
