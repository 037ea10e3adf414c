/**
 * Leads what a container sends to 127.0.0.11 port 53 to the port that the resolver has there, and gives the answers
 * port 53 back:
 *
 *     table ip netctl_dns {
 *         chain output {
 *             type filter hook output priority -310; policy accept;
 *             ip daddr 127.0.0.11 udp dport 53 udp dport set 65053 notrack
 *             ip daddr 127.0.0.11 tcp dport 53 tcp dport set 65053 notrack
 *             ip saddr 127.0.0.11 udp sport 65053 udp sport set 53 notrack
 *             ip saddr 127.0.0.11 tcp sport 65053 tcp sport set 53 notrack
 *         }
 *     }
 *
 * So the container can have port 53 on all its addresses. Ports are rewritten without state: no connection is tracked,
 * nothing is to be looked up on the way back, and the container needs no NAT. Before priority -300, so that rules of
 * the container's own that track or translate never see the port that nobody knows.
 */

import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { nftBatch, readGeneration } from "#netlink/netfilter/batch.ts";
import { NetfilterFamily } from "#netlink/netfilter/header.ts";
import {
  addBaseChain,
  addRule,
  addTable,
  decodeRule,
  deleteTable,
  dumpRules,
  type Expression,
  immediateValue,
  matchPayload,
  matchProtocol,
  notrack,
  PayloadBase,
  setTransport,
} from "#netlink/netfilter/rule.ts";
import { NetlinkSocket, Protocol } from "#netlink/socket.ts";
import { NftablesUnavailableError } from "./error.ts";

const table = { family: NetfilterFamily.ip, name: "netctl_dns" } as const;
const chain = "output";
/** NF_INET_LOCAL_OUT */
const localOut = 3;
const priority = -310;

const resolverAddress = Uint8Array.of(127, 0, 0, 11);
const nameServerPort = 53;
/** Where IPv4 has its addresses, TCP and UDP their ports, and each its checksum. */
const addressOffset = { source: 12, destination: 16 };
const portOffset = { source: 0, destination: 2 };
const protocols = [
  { number: 17, checksumOffset: 6 },
  { number: 6, checksumOffset: 16 },
];

const portBytes = (port: number) => Uint8Array.of(port >> 8, port & 0xff);

function rulesFor(port: number): readonly (readonly Expression[])[] {
  const rule = (
    side: "source" | "destination",
    from: number,
    to: number,
    protocol: (typeof protocols)[number],
  ) => [
    ...matchPayload(PayloadBase.Network, addressOffset[side], resolverAddress),
    ...matchProtocol(protocol.number),
    ...matchPayload(PayloadBase.Transport, portOffset[side], portBytes(from)),
    ...setTransport(portOffset[side], portBytes(to), protocol.checksumOffset),
    ...notrack,
  ];
  return [
    ...protocols.map((protocol) => rule("destination", nameServerPort, port, protocol)),
    ...protocols.map((protocol) => rule("source", port, nameServerPort, protocol)),
  ];
}

function inNamespace<Value>(namespaceFd: number, act: (socket: NetlinkSocket) => Value): Value {
  const socket = NetlinkSocket.open({ protocol: Protocol.Netfilter, namespaceFd });
  try {
    return act(socket);
  } finally {
    socket.close();
  }
}

/**
 * Puts the rules in place, in one transaction; earlier ones are replaced.
 * @param namespaceFd the container's network namespace, open
 * @throws {NftablesUnavailableError} the kernel has no nf_tables, or not these expressions
 * @throws {NetlinkError}
 */
export function addResolverRedirect(namespaceFd: number, port: number): void {
  const requests = [
    addTable(table),
    // Only what is there can be deleted, and added twice would be each rule twice.
    deleteTable(table),
    addTable(table),
    addBaseChain(table, { chain, hook: localOut, priority }),
    ...rulesFor(port).map((expressions) => addRule(table, chain, expressions)),
  ];
  try {
    inNamespace(namespaceFd, (socket) => socket.transact(nftBatch(requests)));
  } catch (error) {
    if (!isNetlinkError(error, Errno.ENOENT, Errno.EOPNOTSUPP, Errno.EAFNOSUPPORT, Errno.EINVAL)) throw error;
    throw new NftablesUnavailableError(
      "the kernel can't lead 127.0.0.11 port 53 to the resolver (CONFIG_NF_TABLES, CONFIG_NFT_CT)",
      error,
    );
  }
}

/** Takes them away; does nothing where they are not. @throws {NetlinkError} */
export function removeResolverRedirect(namespaceFd: number): void {
  try {
    inNamespace(namespaceFd, (socket) => socket.transact(nftBatch([deleteTable(table)])));
  } catch (error) {
    if (!isNetlinkError(error, Errno.ENOENT, Errno.EOPNOTSUPP, Errno.EINVAL)) throw error;
  }
}

/** Whether all of them are there and lead to that port. @throws {NetlinkError} */
export function hasResolverRedirect(namespaceFd: number, port: number): boolean {
  try {
    const found = inNamespace(namespaceFd, (socket) => socket.dump(dumpRules(table, chain))).map(decodeRule);
    const expected = rulesFor(port);
    return (
      found.length === expected.length &&
      expected.every((rule, index) => sameImmediate(rule, found[index] ?? []))
    );
  } catch (error) {
    if (isNetlinkError(error, Errno.ENOENT, Errno.EOPNOTSUPP, Errno.EINVAL)) return false;
    throw error;
  }
}

/** The number of the namespace's ruleset, which every commit of anybody there raises. @throws {NetlinkError} */
export function rulesetNumber(namespaceFd: number): number {
  return inNamespace(namespaceFd, readGeneration);
}

/** The kernel writes defaults into expressions, so that only their names and the ports that are set are compared. */
function sameImmediate(expected: readonly Expression[], found: readonly Expression[]): boolean {
  const print = (all: readonly Expression[]) =>
    all.map((each) => `${each.name} ${Buffer.from(immediateValue(each) ?? []).toString("hex")}`).join();
  return print(expected) === print(found);
}
