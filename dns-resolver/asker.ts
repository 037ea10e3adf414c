import type { AnswerTable } from "./answer-table.ts";
import type { NameEntry } from "./registry.ts";
import type { UpstreamGroup } from "./upstream/group.ts";

/** A container that asks: all attachments in one network namespace. */
export interface Asker {
  /** `dev:ino` of its namespace. */
  readonly id: string;
  readonly containerId: string;
  readonly netns: NameEntry["netns"];
  /** Names of its networks, in the order in which it joined them. */
  readonly networks: readonly string[];
  /** Nobody may be asked on its behalf. */
  readonly isInternal: boolean;
  /** Whom its questions are forwarded to; undefined where nobody may be. */
  readonly upstreams: UpstreamGroup | undefined;
  /** Encoded answers for all that have the same networks and upstreams. */
  readonly answers: AnswerTable;
  readonly load: AskerLoad;
}

/** What a container takes of what is shared. */
export interface AskerLoad {
  /** Questions that are being forwarded. */
  forwarded: number;
  connections: number;
  /** Since the resolver has known it, but for those that its table of answers has answered. */
  queries: number;
  failures: number;
  refused: number;
}
