import type { ResolverReport } from "#dns-resolver/messages.ts";
import type { Finding } from "#netctl/doctor/finding.ts";
import type { LinkNote } from "#netctl/topology/graph.ts";
import type { Topology } from "#netctl/topology/model.ts";

/** GET /api/state */
export interface StateAnswer {
  readonly host: string;
  readonly timeMs: number;
  readonly topology: Topology;
  /** What does not agree, by container id and by name of a bridge. */
  readonly differences: Readonly<Record<string, readonly string[]>>;
  /** Networks over several hosts, by name of a bridge or tunnel. */
  readonly notes: Readonly<Record<string, LinkNote>>;
  readonly networks: readonly {
    readonly name: string;
    readonly driver: string;
    readonly subnets: readonly string[];
    readonly attachments: number;
    readonly differences: readonly string[];
  }[];
  /** Connections that the host tracks by address; null where they can't be counted. */
  readonly connections: Readonly<Record<string, number>> | null;
  readonly problems: readonly string[];
}

/** GET /api/names */
export interface NamesAnswer {
  /** Null where there is no resolver; `problem` says why. */
  readonly report: ResolverReport | null;
  readonly problem: string;
}

/** GET /api/findings */
export interface FindingsAnswer {
  readonly findings: readonly Finding[];
}
