import { randomBytes } from "node:crypto";
import type { Engine, Entry, Step } from "#engine/engine.ts";
import { writtenAt } from "#engine/guard.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { type Cidr, firstIp } from "#net/cidr.ts";
import { addToIp, ipBits } from "#net/ip.ts";
import { OverlayError } from "./error.ts";
import type { Keys } from "./keys.ts";
import { type BlockRecord, formatRecord, type NetworkRecord, readBlock } from "./record.ts";

/** How many blocks are tried one after the other before the list of all is asked for. */
const tries = 8;

export interface ClaimOptions {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly hostId: string;
  /** Of the host's session. */
  readonly fence: Step;
  /** The network as the engine has it: a claim in one that is changed meanwhile is refused. */
  readonly network: { readonly entry: Entry; readonly record: NetworkRecord };
  /** Keys of blocks that are known to be taken. */
  readonly taken: ReadonlySet<string>;
}

export interface ClaimedBlock {
  readonly record: BlockRecord;
  readonly entry: Entry;
}

/**
 * Claims the next free block of one subnet of a network for this host.
 * @throws {OverlayError} "exhausted": all blocks are taken; "conflict": the network or the session has changed
 * @throws {EngineError}
 */
export async function claimBlock(
  options: ClaimOptions,
  subnet: NetworkRecord["subnets"][number],
): Promise<ClaimedBlock> {
  const { engine, keys, hostId, fence, network } = options;
  let { taken } = options;
  for (let round = 0; round < 3; round++) {
    let tried = 0;
    for (const cidr of candidates(subnet.cidr, subnet.blockLength, `${hostId}/${network.record.id}`)) {
      const key = keys.block(network.record.name, cidr);
      if (taken.has(key)) continue;
      const record: BlockRecord = { v: 1, cidr, host: hostId, nonce: randomBytes(6).toString("hex") };
      const value = formatRecord(record);
      const outcome = await engine.commit([
        fence,
        { kind: "unchanged", key: network.entry.key, revision: network.entry.revision },
        { kind: "create", key, value },
      ]);
      if (outcome.committed) return { record, entry: { key, value, revision: writtenAt(outcome, key) } };
      if (!outcome.found.has(key))
        throw new OverlayError(
          "conflict",
          `Cannot claim addresses in ${JSON.stringify(network.record.name)}: the network or this host's session has changed`,
        );
      if (++tried === tries) break;
    }
    if (tried === 0) break;
    const { entries } = await engine.list(keys.blocksOf(network.record.name));
    taken = new Set(entries.map((entry) => entry.key));
  }
  throw new OverlayError(
    "exhausted",
    `Network ${JSON.stringify(network.record.name)} has no block of addresses left`,
  );
}

/**
 * Claims one block again that this host has addresses of, as after its entry was lost.
 * @returns undefined if it is another host's by now
 * @throws {OverlayError} "conflict": the network or the session has changed
 * @throws {EngineError}
 */
export async function reclaimBlock(
  { engine, keys, hostId, fence, network }: Omit<ClaimOptions, "taken">,
  cidr: Cidr,
): Promise<ClaimedBlock | undefined> {
  const key = keys.block(network.record.name, cidr);
  const record: BlockRecord = { v: 1, cidr, host: hostId, nonce: randomBytes(6).toString("hex") };
  const value = formatRecord(record);
  const outcome = await engine.commit([fence, { kind: "create", key, value }]);
  if (outcome.committed) return { record, entry: { key, value, revision: writtenAt(outcome, key) } };
  const entry = outcome.found.get(key);
  if (!entry)
    throw new OverlayError("conflict", `Cannot claim ${key} again: this host's session has changed`);
  const present = readBlock(key, entry.value);
  return present.host === hostId ? { record: present, entry } : undefined;
}

/** Gives a block back, if it is still this host's as it was claimed. @returns whether it was @throws {EngineError} */
export async function releaseBlock(engine: Engine, fence: Step, entry: Entry): Promise<boolean> {
  return (await engine.commit([fence, { kind: "remove", key: entry.key, revision: entry.revision }]))
    .committed;
}

/** Addresses that one block has for containers: not the tunnel's, the gateway's and, in IPv4, the broadcast. */
export function addressesIn({ address: { family }, prefixLength }: Cidr): number {
  return Math.max(2 ** Math.min(ipBits(family) - prefixLength, 40) - (family === 4 ? 3 : 2), 0);
}

/** All blocks of a subnet, from a place on that `seed` tells, so that hosts who claim at once rarely meet. */
export function* candidates(subnet: Cidr, blockLength: number, seed: string): Generator<Cidr> {
  const count = 1n << BigInt(blockLength - subnet.prefixLength);
  const size = 1n << BigInt(ipBits(subnet.address.family) - blockLength);
  const start = BigInt(`0x${sha256Hex(seed).slice(0, 16)}`) % count;
  for (let index = 0n; index < count; index++) {
    const at = (start + index) % count;
    yield { address: addToIp(firstIp(subnet), at * size), prefixLength: blockLength };
  }
}
