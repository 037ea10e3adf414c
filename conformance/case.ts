import type { KernelFeature } from "./kernel-features.ts";
import type { Lab } from "./lab.ts";

/** One row of the table. It passes unless `run` throws, or something is left behind after it. */
export interface Case {
  /** What the executable does, as a sentence; unique within its topic. */
  readonly title: string;
  /** Where it is demanded: "SPEC 1.1.0, DEL", "bridge README, forceAddress", "plugins#1196". */
  readonly source: string;
  /** Executables needed besides those of the topic. */
  readonly executables?: readonly string[];
  readonly needs?: readonly KernelFeature[];
  /** What containernetworking/plugins do instead, where they are known not to pass. */
  readonly reference?: string;
  /** @throws {Failure} with the reason, {Skip} with what is lacking */
  run(lab: Lab): Promise<void>;
}

export interface Topic {
  readonly name: string;
  /** Without these the topic's cases are skipped. */
  readonly executables: readonly string[];
  readonly cases: readonly Case[];
}

export type Status = "pass" | "fail" | "skip";

export interface CaseResult {
  readonly topic: string;
  readonly title: string;
  readonly source: string;
  readonly status: Status;
  /** Empty on a pass. */
  readonly reason: string;
  readonly durationMs: number;
  readonly reference?: string;
}
