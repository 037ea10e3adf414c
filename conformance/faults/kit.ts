import type { KernelFeature } from "#conformance/kernel-features.ts";

/** What all scenarios of one run share. */
export interface Kit {
  /** Executables of the fault build. */
  readonly bin: string;
  /** `netd.cjs` is there. */
  readonly lib: string;
  /** Each world gets a directory below it. */
  readonly directory: string;
  /** Every point with every way on, long stops, a thousand containers; else a part of it. */
  readonly isFull: boolean;
}

/** One fault, and what became of it. */
export interface Row {
  readonly scenario: string;
  /** Where it struck: "netd/veth-made". */
  readonly fault: string;
  /** What was done about it: "ADD". Empty where nothing was. */
  readonly followUp: string;
  /** Empty if all was well, and for a skipped scenario's only row. */
  readonly reason: string;
  /** What this kernel lacks: nothing was tried. */
  readonly skipped?: string;
}

export interface Scenario {
  /** Unique; a test of its own. */
  readonly name: string;
  /** Most of its time it waits: runs beside the others. */
  readonly isIdle?: true;
  /** Is skipped where the kernel lacks it. */
  readonly needs?: KernelFeature;
  readonly run: (bench: ScenarioBench) => Promise<void>;
}

/** What a scenario gets. */
export interface ScenarioBench {
  readonly kit: Kit;
  /** Prefix for the names of its worlds. */
  readonly label: string;
  /** Adds a row; the scenario fails if one has a reason, or if it throws. */
  readonly note: (fault: string, followUp: string, reason: string) => void;
}

/** How requests are carried out: each by a process of its own, or by netd. */
export type Mode = "standalone" | "netd";

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function pause(timeMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, timeMs));
}
