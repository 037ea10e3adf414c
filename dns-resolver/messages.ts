import type { Source } from "./chain.ts";
import type { LogEntry } from "./query-log.ts";
import type { NamedAttachment, NameEntry, NameKey } from "./registry.ts";

/** What the resolver's thread is told and asked. Each is answered once, by its number. */
export type Order =
  | { readonly op: "add"; readonly entry: NameEntry }
  | { readonly op: "remove"; readonly key: NameKey }
  /** Names of containers that are on other hosts: new or other ones, and those that have gone. */
  | { readonly op: "foreign"; readonly put: readonly NamedAttachment[]; readonly gone: readonly NameKey[] }
  | { readonly op: "hostServers"; readonly addresses: readonly string[] }
  /** Looks which namespaces are left, now. */
  | { readonly op: "sweep" }
  | { readonly op: "list" }
  | { readonly op: "query"; readonly key: NameKey; readonly name: string; readonly type: number }
  | { readonly op: "log"; readonly after: number }
  | { readonly op: "stop" };

export interface NumberedOrder {
  readonly number: number;
  readonly order: Order;
}

/** What comes back. */
export type Report =
  | { readonly op: "done"; readonly number: number; readonly value: unknown }
  | { readonly op: "failed"; readonly number: number; readonly message: string; readonly code?: string }
  | {
      readonly op: "log";
      readonly level: "debug" | "info" | "warn" | "error";
      readonly message: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };

/** What `list` answers with: one for each container. */
export interface ContainerReport {
  readonly containerId: string;
  readonly netns: string;
  /** `lost`: its namespace is gone, and with it its names. `failed`: see `problem`. */
  readonly state: "listening" | "lost" | "failed";
  readonly problem?: string;
  readonly port: number;
  readonly networks: readonly {
    readonly network: string;
    readonly ifName: string;
    readonly names: readonly string[];
    readonly addresses: readonly string[];
    readonly isInternal: boolean;
  }[];
  /** Whom its other questions go to; empty: nobody. */
  readonly servers: readonly string[];
  /** Where from. */
  readonly from: "host" | "container" | "nowhere";
  readonly queries: number;
  readonly failures: number;
  readonly refused: number;
}

export interface ResolverReport {
  readonly containers: readonly ContainerReport[];
  readonly hostServers: readonly string[];
  readonly cached: number;
  readonly cachedBytes: number;
  /** What the thread's objects take. */
  readonly heapBytes: number;
}

/** What `query` answers with. */
export interface QueryReport {
  /** As that container would get it, over TCP. */
  readonly message: Uint8Array;
  readonly source: Source;
  readonly ms: number;
}

export interface LogReport {
  readonly entries: readonly LogEntry[];
}

/** What netd answers about the registry as a whole. */
export interface SyncReport {
  /** Why an attachment is not served, by `keyText`. */
  readonly problems: Readonly<Record<string, string>>;
}
