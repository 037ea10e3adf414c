import { identifyNamespace } from "#machine/namespace-identity.ts";
import { hostNetns } from "./builtin-networks.ts";
import { addNetworkList, ChainFailure } from "./chain.ts";
import { requireExecutables } from "./plugin-call.ts";
import type { PortRequest } from "./port-request.ts";
import { notFound, SandboxFailure } from "./sandbox-failure.ts";
import { type SandboxParts, targetIn } from "./sandbox-parts.ts";
import type { SandboxAttachment, SandboxRecord } from "./sandbox-record.ts";
import { pinRoutes, type Settled, settleSandbox } from "./sandbox-settling.ts";

/** A sandbox after a change. */
export interface ChangedSandbox {
  readonly name: string;
  readonly containerId: string;
  readonly attachments: readonly SandboxAttachment[];
  readonly ports: readonly PortRequest[];
  /** Ports that no network of it publishes. */
  readonly unpublished: readonly PortRequest[];
}

/**
 * Changes of sandboxes that run. The record says what was begun before anything happens, so that what was cut off can
 * be finished or taken back by anybody.
 */
export class SandboxChanges {
  readonly #parts: SandboxParts;

  constructor(parts: SandboxParts) {
    this.#parts = parts;
  }

  async connect(name: string, asked: SandboxAttachment, prefix: string): Promise<ChangedSandbox> {
    return await this.#parts.exclusively(name, async () => {
      const before = await this.#readReady(name);
      const { network } = asked;
      if (before.attachments.some((each) => each.network === network)) {
        throw new SandboxFailure(`endpoint with name ${name} already exists in network ${network}`);
      }
      if (network === "host" || before.netns === hostNetns) {
        throw new SandboxFailure("container cannot be connected to host network or disconnected from it");
      }
      const attachment = { ...asked, ifName: freeName(asked.ifName, prefix, before) };
      const list = await this.#parts.listOf(network);
      requireExecutables(list, this.#parts.host);
      const record: SandboxRecord = {
        ...before,
        change: { verb: "connect", ifName: attachment.ifName },
        attachments: [...before.attachments, attachment],
      };
      const earlier = await this.#parts.attachedOf(before);
      await this.#parts.records.update(record);
      try {
        pinRoutes(this.#parts, before, earlier);
        await addNetworkList(list, targetIn(record, attachment), this.#parts.host);
        return await this.#finish(record);
      } catch (error) {
        const left = await this.#takeBack(record, attachment, before);
        if (left === undefined) throw error;
        throw new ChainFailure(
          `Cannot connect sandbox "${name}" to network "${network}"`,
          [error, left],
          error,
        );
      }
    });
  }

  async disconnect(name: string, network: string): Promise<ChangedSandbox> {
    return await this.#parts.exclusively(name, async () => {
      const found = await this.#read(name);
      const attachment = found.attachments.find((each) => each.network === network);
      if (attachment === undefined) {
        throw new SandboxFailure(`container ${name} is not connected to network ${network}`);
      }
      if (found.netns === hostNetns) {
        throw new SandboxFailure("container cannot be connected to host network or disconnected from it");
      }
      const isOther = found.change !== undefined && found.change.ifName !== attachment.ifName;
      if (isOther) throw cutOff(name, found);
      const record: SandboxRecord = {
        ...found,
        change: { verb: "disconnect", ifName: attachment.ifName },
      };
      await this.#parts.records.update(record);
      return await this.#leave(record, attachment);
    });
  }

  async repair(name: string): Promise<ChangedSandbox> {
    return await this.#parts.exclusively(name, async () => {
      const record = await this.#read(name);
      if (typeof identifyNamespace(record.netns) !== "object") {
        throw new SandboxFailure(
          `Cannot repair sandbox ${name}: its namespace ${record.netns} is gone; "netctl sandbox rm ${name}" clears it away`,
        );
      }
      const { change } = record;
      const attachment = record.attachments.find(({ ifName }) => ifName === change?.ifName);
      if (change === undefined || attachment === undefined) return await this.#finish(record, true);
      if (change.verb === "disconnect") return await this.#leave(record, attachment, true);
      const isMade = (await this.#parts.attachedOf(record)).some((each) => each.attachment === attachment);
      if (isMade) return await this.#finish(record, true);
      const before = without(record, attachment);
      await this.#detach(record, attachment);
      return await this.#finish(before, true);
    });
  }

  /** Ports and routes first, so that what the sandbox serves is elsewhere by the time that the interface goes. */
  async #leave(record: SandboxRecord, attachment: SandboxAttachment, again = false): Promise<ChangedSandbox> {
    const after = without(record, attachment);
    const attached = await this.#parts.attachedOf(record);
    const isLast = attached.every((each) => each.attachment === attachment);
    // Its DEL takes the ports along.
    if (!isLast) await settleSandbox(this.#parts, record, attached, { leaving: attachment });
    await this.#detach(record, attachment);
    return await this.#finish(after, again);
  }

  async #finish(record: SandboxRecord, again = false): Promise<ChangedSandbox> {
    const attached = await this.#parts.attachedOf(record);
    const settled: Settled = await settleSandbox(this.#parts, record, attached, { again });
    await this.#parts.writeFiles(
      record,
      attached.map(({ result }) => result),
    );
    const { change: _, ...rest } = record;
    const ready: SandboxRecord = { ...rest, phase: "ready", ports: settled.ports };
    await this.#parts.records.update(ready);
    const { name, containerId, attachments, ports } = ready;
    return { name, containerId, attachments, ports, unpublished: settled.unpublished };
  }

  /** @returns what failed; the record says so then */
  async #takeBack(
    record: SandboxRecord,
    attachment: SandboxAttachment,
    before: SandboxRecord,
  ): Promise<unknown> {
    try {
      await this.#detach(record, attachment);
      await this.#finish(before);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  async #detach(record: SandboxRecord, attachment: SandboxAttachment): Promise<void> {
    const cached = await this.#parts.cachedOf(record.containerId);
    await this.#parts.detach(record, attachment, record.netns, cached);
  }

  /** @throws {SandboxFailure} there is none, or its creation or removal was cut off */
  async #read(name: string): Promise<SandboxRecord> {
    const record = await this.#parts.records.read(name);
    if (record === undefined) throw notFound(name, await this.#parts.records.names());
    if (record.phase !== "ready") {
      throw new SandboxFailure(
        `sandbox ${name} is unfinished: its creation or removal was cut off; "netctl sandbox rm ${name}" clears it away`,
      );
    }
    return record;
  }

  /** @throws {SandboxFailure} as above, and where a change was cut off or the namespace is gone */
  async #readReady(name: string): Promise<SandboxRecord> {
    const record = await this.#read(name);
    if (record.change !== undefined) throw cutOff(name, record);
    if (typeof identifyNamespace(record.netns) !== "object") {
      throw new SandboxFailure(
        `sandbox ${name} is lost: its namespace is gone; "netctl sandbox rm ${name}" clears it away`,
      );
    }
    return record;
  }
}

function cutOff(name: string, { change }: SandboxRecord): SandboxFailure {
  return new SandboxFailure(
    `sandbox ${name} is changing: a ${change?.verb ?? "change"} was cut off; "netctl sandbox repair ${name}" mends it`,
  );
}

function without(record: SandboxRecord, attachment: SandboxAttachment): SandboxRecord {
  const { change: _, ...rest } = record;
  return { ...rest, attachments: record.attachments.filter((each) => each !== attachment) };
}

/** The name that is asked for; else the first of eth0, eth1 … that the sandbox does not have. */
function freeName(asked: string, prefix: string, { name, attachments }: SandboxRecord): string {
  const isTaken = (ifName: string) => attachments.some((each) => each.ifName === ifName) || ifName === "lo";
  if (asked !== "" && isTaken(asked)) {
    throw new SandboxFailure(`Cannot connect sandbox ${name}: it has an interface ${asked} already`);
  }
  if (asked !== "") return asked;
  let index = 0;
  while (isTaken(`${prefix}${index}`)) index++;
  return `${prefix}${index}`;
}
