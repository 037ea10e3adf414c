import type { CniArgs } from "#cni/cni-args.ts";
import type { JsonObject } from "#cni/json.ts";
import type { AddRequest, CheckRequest, NetworkConfig, StatusRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey, Json } from "#journal/record.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Undo } from "#kernel/undo.ts";
import type { IfName } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";
import type { Departing } from "./departing.ts";
import type { CheckedInterface } from "./interface-problems.ts";
import type { Upkeep } from "./upkeep.ts";

/** What of a configuration concerns every interface plugin. */
export interface InterfaceConfig {
  /** Absent: layer 2 only, where the plugin has that; `parse` refuses where it has not. */
  readonly ipamType?: string;
}

/**
 * What one interface plugin does of its own. What all of them do alike (the journal, the IPAM plugin, undoing, a
 * repeated ADD, GC) is `interfacePlugin()`.
 */
export interface InterfaceDriver<Config extends InterfaceConfig, Made> {
  /** The plugin's name, in configurations and in the journal. */
  readonly name: string;
  /**
   * Turns the configuration into a typed one. DEL and GC never ask for it.
   * @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS
   */
  parse(network: NetworkConfig, args?: CniArgs): Config;
  /** What is to be made, as the journal keeps it: enough to remove it without namespace, configuration and result. */
  encodeMade(made: Made): JsonObject;
  /** Undefined for what another version wrote otherwise. */
  decodeMade(made: Json): Made | undefined;

  /** Looks at the host and refuses what can't be. Changes nothing: the journal does not know of it yet. */
  plan(work: Addition<Config>): Made | Promise<Made>;
  /**
   * Makes the container's interface and what it needs in the host, without addresses: IPAM plugins such as dhcp work
   * through it. Pushes a reversal of each step on `undo`, before it or at once after it.
   */
  connect(work: Making<Config, Made>): void | Promise<void>;
  /**
   * Sets the interface up with the addresses, if there are any.
   * @param ipam what the IPAM plugin answered; undefined where the configuration names none
   */
  configure(work: Making<Config, Made>, ipam: CniResult | undefined): CniResult | Promise<CniResult>;
  /** Everything that is not as ADD has made it, one sentence each. The IPAM plugin was asked before. */
  problems(work: Checking<Config, Made>): readonly string[] | Promise<readonly string[]>;
  /**
   * Takes everything away but the addresses, which the IPAM plugin gets back after that. What is gone already is fine.
   * @param made undefined without a readable record: then what can be told for sure from the request goes
   */
  remove(departing: Departing, made: Made | undefined, host: PluginHost): Promise<void>;
  /** What else of a network may be left without a record, for GC. Steps of their own: one goes on after another. */
  sweep?(
    host: PluginHost,
  ): readonly ((
    network: string,
    valid: readonly { readonly containerId: string; readonly ifName: string }[],
  ) => Promise<void>)[];
  /** For rules and links on the host that can be looked at, or put back, by the record alone. */
  readonly upkeep?: Upkeep;
  /** Whether the next ADD can be served, but for the IPAM plugin's part. @throws what ADD would, or code 50 */
  status(config: Config, host: PluginHost, request: StatusRequest): void | Promise<void>;
}

/** One ADD, before anything is made. */
export interface Addition<Config> {
  readonly config: Config;
  readonly key: AttachmentKey;
  /** CNI_IFNAME */
  readonly ifName: IfName;
  /** Closed by the caller. */
  readonly container: NetworkNamespace;
  readonly request: AddRequest;
  readonly host: PluginHost;
}

/** One ADD while things are being made. */
export interface Making<Config, Made> extends Addition<Config> {
  /** As the journal has it. */
  readonly made: Made;
  readonly undo: Undo;
  /** Says in the journal what more will be made, before it is made. */
  amend(made: Made): void;
}

export interface Checking<Config, Made> {
  readonly config: Config;
  readonly key: AttachmentKey;
  readonly ifName: IfName;
  readonly container: NetworkNamespace;
  readonly request: CheckRequest;
  readonly host: PluginHost;
  /** Undefined for an attachment of the reference plugin, or one whose record is lost. */
  readonly made: Made | undefined;
  /** What the result says of the container's interface. */
  readonly checked: CheckedInterface;
}
