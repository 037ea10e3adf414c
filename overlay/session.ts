import { randomBytes } from "node:crypto";
import type { Engine, Lease, Outcome, Step } from "#engine/engine.ts";
import { writtenAt } from "#engine/guard.ts";
import { formatIp } from "#net/ip.ts";
import { OverlayError } from "./error.ts";
import type { Keys } from "./keys.ts";
import { formatRecord, type HostRecord, readHost, readLive } from "./record.ts";

/** How long a host counts as there after it was last heard of. Nobody stops forwarding because of it. */
export const sessionSeconds = 60;
/** How often it is renewed; tells as well whether the engine is there. */
export const renewalSeconds = 10;

/**
 * A host's presence in the engine. Each of its writes is fenced by it: once another process, or the same host after a
 * long silence, has begun a new session, what the old one still sends is refused.
 */
export class Session {
  /** What a write has to find unchanged. */
  readonly fence: Step;
  readonly #engine: Engine;
  readonly #lease: Lease;
  /** What it has registered, and nobody but an operator takes away. */
  readonly #written: readonly string[];

  private constructor(engine: Engine, lease: Lease, fence: Step, written: readonly string[]) {
    this.#engine = engine;
    this.#lease = lease;
    this.fence = fence;
    this.#written = written;
  }

  /**
   * Registers the host.
   * @param nonce a secret of this host's, that says that a session which is still there is its own of before
   * @param previous of this process
   * @throws {OverlayError} "conflict": another machine has this id or this address; "missing": the host was removed
   * @throws {EngineError}
   */
  static async begin(
    engine: Engine,
    keys: Keys,
    host: HostRecord,
    nonce: string,
    previous?: Session,
  ): Promise<Session> {
    const lease = await engine.grantLease(sessionSeconds);
    try {
      const revision = await register(engine, keys, { host, nonce, lease, previous });
      const live = keys.live(host.id);
      const written = [live, keys.host(host.id), ...addressesOf(host).map((ip) => keys.vtep(ip))];
      return new Session(engine, lease, { kind: "unchanged", key: live, revision }, written);
    } catch (error) {
      await engine.revokeLease(lease).catch(() => undefined);
      throw error;
    }
  }

  /** @returns false if it has ended, or somebody has deleted what it registered: begin another. @throws {EngineError} */
  async keepAlive(): Promise<boolean> {
    const [isKept, ...entries] = await Promise.all([
      this.#engine.keepAlive(this.#lease),
      ...this.#written.map((key) => this.#engine.read(key)),
    ]);
    return isKept && entries.every((entry) => entry !== undefined);
  }

  async end(): Promise<void> {
    await this.#engine.revokeLease(this.#lease);
  }
}

interface Registration {
  readonly host: HostRecord;
  readonly nonce: string;
  readonly lease: Lease;
  readonly previous: Session | undefined;
}

async function register(
  engine: Engine,
  keys: Keys,
  { host, nonce, lease, previous }: Registration,
): Promise<number> {
  const key = keys.live(host.id);
  // Two ends: what `begin` compares, and a part that makes each session's value its own.
  const value = formatRecord({ v: 1, nonce, session: randomBytes(6).toString("hex") });
  for (let attempt = 0; attempt < 5; attempt++) {
    const [live, stored, ...vteps] = await Promise.all([
      engine.read(key),
      engine.read(keys.host(host.id)),
      ...addressesOf(host).map((ip) => engine.read(keys.vtep(ip))),
    ]);
    if (live && readLive(key, live.value).nonce !== nonce)
      throw new OverlayError(
        "conflict",
        `Another machine uses the host id ${host.id}: give one of them another id`,
      );
    const before = stored && readHost(stored.key, stored.value);
    const isOwn = previous?.fence.kind === "unchanged" && previous.fence.revision === live?.revision;
    // A disk that was copied has the nonce as well. A host that was restarted with another address waits for its lease.
    if (live && before && !isOwn && !hasSameAddress(before, host))
      throw new OverlayError(
        "conflict",
        `Another machine uses the host id ${host.id}, from ${addressesOf(before).map(formatIp).join(", ")}: give one of them another id, by "netctl cluster leave" and "join"`,
      );
    if (before?.state === "removed")
      throw new OverlayError("missing", `Host ${host.id} was removed from the cluster; join it again`);
    const steps: Step[] = [
      live
        ? { kind: "replace", key, revision: live.revision, value, lease }
        : { kind: "create", key, value, lease },
    ];
    for (const [index, ip] of addressesOf(host).entries()) {
      const vtep = vteps[index];
      if (vtep && vtep.value !== host.id)
        throw new OverlayError(
          "conflict",
          `Address ${formatIp(ip)} is that of host ${vtep.value}; each host needs its own`,
        );
      const same = { key: keys.vtep(ip), value: host.id };
      if (!vtep) steps.push({ kind: "create", ...same });
    }
    const wanted = formatRecord({ ...before, ...host });
    if (!stored)
      steps.push(
        { kind: "create", key: keys.host(host.id), value: wanted },
        { kind: "clear", key: keys.left(host.id) },
      );
    else if (stored.value !== wanted)
      steps.push({ kind: "replace", key: stored.key, revision: stored.revision, value: wanted });
    if (before) steps.push(...goneAddresses(keys, before, host));
    const outcome: Outcome = await engine.commit(steps);
    if (outcome.committed) return writtenAt(outcome, key);
  }
  throw new OverlayError(
    "conflict",
    `Cannot register host ${host.id}: its entries keep changing; is there another machine with this id?`,
  );
}

function hasSameAddress(a: HostRecord, b: HostRecord): boolean {
  const texts = new Set(addressesOf(a).map(formatIp));
  return addressesOf(b).some((ip) => texts.has(formatIp(ip)));
}

function addressesOf({ underlay }: HostRecord) {
  return [underlay.v4, underlay.v6].filter((ip) => ip !== undefined);
}

function goneAddresses(keys: Keys, before: HostRecord, now: HostRecord): Step[] {
  const kept = new Set(addressesOf(now).map(formatIp));
  return addressesOf(before)
    .filter((ip) => !kept.has(formatIp(ip)))
    .map((ip) => ({ kind: "clear", key: keys.vtep(ip) }));
}
