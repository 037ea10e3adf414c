import { randomBytes } from "node:crypto";
import type { Lease } from "#engine/engine.ts";
import { type KubernetesApi, StatusError } from "./api.ts";
import { type EntryObject, type LeaseObject, type ListObject, leaseLabel } from "./objects.ts";
import type { KubernetesSettings } from "./settings.ts";

/** A lease that was not renewed for so many times its length is over: the server's clocks and ours may differ. */
const graceFactor = 1.5;

interface Seen {
  readonly resourceVersion: string;
  readonly atMs: number;
}

/**
 * Leases of coordination.k8s.io. The API server ends none by itself and removes nothing with one: whichever host sees
 * for long enough, by its own clock, that one was not renewed takes it away, with the entries that carry its name. Wall
 * clocks are never compared.
 */
export class Leases {
  readonly #api: KubernetesApi;
  readonly #leases: string;
  readonly #entries: string;
  readonly #seen = new Map<string, Seen>();
  readonly #sweepMs: number;
  #nextSweepMs = 0;

  constructor(api: KubernetesApi, { namespace, sweepMs = 20_000 }: KubernetesSettings, entries: string) {
    this.#api = api;
    this.#sweepMs = sweepMs;
    this.#leases = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
    this.#entries = entries;
  }

  async grant(ttlSeconds: number): Promise<Lease> {
    const name = `netctl-${randomBytes(8).toString("hex")}`;
    await this.#api.call("POST", this.#leases, lease(name, ttlSeconds));
    return { id: name, ttlSeconds };
  }

  /** @returns false if it has ended */
  async renew({ id, ttlSeconds }: Lease): Promise<boolean> {
    await this.#sweep();
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        const found = (await this.#api.call("GET", `${this.#leases}/${id}`)) as LeaseObject;
        const { resourceVersion } = found.metadata;
        const renewed = lease(id, ttlSeconds, resourceVersion);
        await this.#api.call("PUT", `${this.#leases}/${id}`, renewed);
        return true;
      } catch (error) {
        if (error instanceof StatusError && error.isNotFound) return false;
        if (!(error instanceof StatusError && error.code === 409)) throw error;
      }
    }
    return true;
  }

  /** Its entries vanish now. */
  async end(id: string, resourceVersion?: string): Promise<void> {
    const options = resourceVersion === undefined ? undefined : { preconditions: { resourceVersion } };
    try {
      await this.#api.call("DELETE", `${this.#leases}/${id}`, options);
    } catch (error) {
      // Renewed meanwhile, or another host was faster.
      if (error instanceof StatusError && error.code === 409) return;
      if (!(error instanceof StatusError && error.isNotFound)) throw error;
    }
    const query = `labelSelector=${encodeURIComponent(`${leaseLabel}=${id}`)}`;
    const { items } = (await this.#api.call("GET", `${this.#entries}?${query}`)) as ListObject<EntryObject>;
    for (const { metadata } of items) {
      // One that was written again under another lease is that one's.
      const precondition = { preconditions: { resourceVersion: metadata.resourceVersion } };
      await this.#api.call("DELETE", `${this.#entries}/${metadata.name}`, precondition).catch(ignoreGone);
    }
  }

  async #sweep(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs < this.#nextSweepMs) return;
    const query = `labelSelector=${encodeURIComponent(leaseLabel)}`;
    const { items } = (await this.#api.call("GET", `${this.#leases}?${query}`)) as ListObject<LeaseObject>;
    // Of a thousand hosts a few look at a time.
    this.#nextSweepMs = nowMs + this.#sweepMs * Math.max(1, items.length / 5) * (0.5 + Math.random());
    const names = new Set(items.map(({ metadata }) => metadata.name));
    for (const name of this.#seen.keys()) if (!names.has(name)) this.#seen.delete(name);
    for (const { metadata, spec } of items) {
      const { name, resourceVersion = "" } = metadata;
      const seen = this.#seen.get(name);
      if (seen?.resourceVersion !== resourceVersion) this.#seen.set(name, { resourceVersion, atMs: nowMs });
      else if (nowMs - seen.atMs > spec.leaseDurationSeconds * 1000 * graceFactor)
        await this.end(name, resourceVersion);
    }
  }
}

function lease(name: string, ttlSeconds: number, resourceVersion?: string): LeaseObject {
  return {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: {
      name,
      labels: { [leaseLabel]: name },
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
    // MicroTime. For people who look at it: nothing here compares it.
    spec: { leaseDurationSeconds: ttlSeconds, renewTime: new Date().toISOString().replace("Z", "000Z") },
  };
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof StatusError && (error.isNotFound || error.code === 409))) throw error;
}
