import type { IfName } from "#net/ifname.ts";

/** What a bridge that is shared by many has to be like. */
export interface BridgeSpec {
  readonly name: IfName;
  /** Of a bridge that is made; one that exists keeps its own. */
  readonly mtu?: number;
  /** Is switched on, never off. */
  readonly vlanFiltering: boolean;
  /** Is switched on, never off. */
  readonly promiscuous: boolean;
}

/** VLAN ids `first` to `last`, both included; 1 to 4094 (IEEE 802.1Q: 0 and 4095 are no VLANs). */
export interface VlanRange {
  readonly first: number;
  readonly last: number;
}

/** What the port of one attachment has to be like. */
export interface BridgePortSpec {
  /** Frames may leave through the port that they came in by. */
  readonly hairpin: boolean;
  /** No frames from or to other isolated ports. */
  readonly isolated: boolean;
  readonly vlans?: PortVlans;
}

export interface PortVlans {
  /** Untagged frames are of this VLAN, both ways. */
  readonly untagged: number;
  readonly tagged: readonly VlanRange[];
  /** Keep the VLANs that the bridge gave the port by itself. */
  readonly keepOthers: boolean;
}
