import type { Plugin } from "#cni/plugin.ts";
import type { IntactRecord } from "#journal/record.ts";
import type { Operation } from "#nftables/element.ts";
import type { PluginHost } from "./context.ts";

/** What one attachment has to have on the host. */
export interface Needs {
  /** Elements of the suite's own tables: those of its ADD, shared ones included. */
  readonly elements: readonly Operation[];
  /** True if it has rules elsewhere: tables of its own, chains of iptables, the container's own ruleset. */
  readonly rules: boolean;
}

export const needsNothing: Needs = { elements: [], rules: false };

/**
 * What attachments of one plugin need on the host, by what their records say: for when another hand has taken some of it
 * away (`nft flush ruleset`, a firewall's reload), with neither the request nor the namespace at hand.
 */
export interface Upkeep {
  /** Pure, and quick, as it is asked for every record. Nothing for a record that it can't read. */
  needs(record: IntactRecord): Needs;
  /**
   * Rules elsewhere that the attachment has to have and has not, in words. Asked for records that need some. Absent for a
   * plugin that makes none.
   */
  missingRules?(record: IntactRecord, host: PluginHost): Promise<readonly string[]>;
  /** Makes those rules again; what is there is fine. */
  restoreRules?(record: IntactRecord, host: PluginHost): Promise<void>;
  /** What of its links and addresses in the host's namespace is not as it was made, in words. Nothing mends that. */
  linkProblems?(record: IntactRecord, host: PluginHost): readonly string[];
  /**
   * Called when rules or elements of these records were missing and are back: makes the kernel forget what it has learnt
   * meanwhile, such as flows that went untranslated.
   */
  restored?(records: readonly IntactRecord[], host: PluginHost): Promise<void>;
}

/** A plugin of the suite. */
export interface SuitePlugin extends Plugin<PluginHost> {
  /** Absent for a plugin whose attachments have nothing on the host that could be put back. */
  readonly upkeep?: Upkeep;
}
