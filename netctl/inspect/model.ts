import type { ConfiguredSubnet } from "#netctl/network/conflist.ts";

/**
 * What `netctl inspect --json` prints, and what its tree is drawn from: plain JSON, addresses as text.
 * docs/netctl.md describes it; a field that changes its meaning gets a new `schema`.
 */
export interface Inspection {
  readonly schema: "netctl.inspect/1";
  readonly networks: readonly NetworkView[];
  readonly sandboxes: readonly SandboxView[];
  /** What could not be looked at, and why: the rest is true all the same. */
  readonly problems: readonly string[];
}

export interface NetworkView {
  readonly name: string;
  readonly id: string;
  readonly driver: string;
  /** The conflist. */
  readonly path: string;
  readonly cniVersion: string;
  /** Types in the order of the chain. */
  readonly plugins: readonly string[];
  readonly subnets: readonly ConfiguredSubnet[];
  readonly bridges: readonly BridgeView[];
  readonly attachments: readonly AttachmentView[];
  /** Of a network over several hosts; null of others, and where nothing is known of the cluster. */
  readonly overlay: OverlayView | null;
  /** Firewalls of others that drop what the network lets pass, and what helps. */
  readonly blocked: readonly BlockView[];
  /** Where configuration, records and kernel do not agree, one sentence each. */
  readonly differences: readonly string[];
}

/** What the engine says of a network, beside what this host's kernel and leases have. */
export interface OverlayView {
  /** "memory": the engine was not to be had, and this is what the host knew last. */
  readonly source: "engine" | "memory";
  readonly vni: number;
  readonly mode: "l3" | "l2";
  readonly encrypted: boolean;
  /** Where its containers here are. */
  readonly bridge: string;
  /** Tunnels that the kernel has. */
  readonly devices: readonly string[];
  /** Those that have addresses in the network: this one first. */
  readonly hosts: readonly OverlayHostView[];
}

export interface OverlayHostView {
  readonly id: string;
  readonly name: string;
  readonly here: boolean;
  /** Its session is in the engine; null where that was not to be had. */
  readonly live: boolean | null;
  readonly underlay: readonly string[];
  /** Addresses given out: of this host's blocks alone. */
  readonly blocks: readonly { readonly cidr: string; readonly given: number | null }[];
  /** Containers that it has told of; null where hosts tell of none. */
  readonly containers: number | null;
  /** What leads to it and is not in the kernel. */
  readonly missing: readonly string[];
}

export interface BlockView {
  readonly bridge: string;
  /** ufw, firewalld, docker; empty for one that is not known. */
  readonly owner: string;
  /** Table, chain, hook, priority and policy, and what it drops. */
  readonly evidence: string;
  readonly remedy: string;
  /** False where a rule before may let it pass after all. */
  readonly certain: boolean;
}

export interface BridgeView {
  readonly name: string;
  /** Null where the host has no such link. */
  readonly link: LinkView | null;
  readonly ports: readonly PortView[];
}

export interface PortView {
  readonly name: string;
  readonly up: boolean;
  /** Whose it is; null for a port that no attachment of the network explains. */
  readonly attachment: { readonly containerId: string; readonly ifName: string } | null;
}

export interface AttachmentView {
  readonly network: string;
  readonly containerId: string;
  /** Of the container's sandbox; null where it is no sandbox of netctl. */
  readonly sandbox: string | null;
  readonly ifName: string;
  /** As the runtime gave it; empty if nobody recorded it. */
  readonly netns: string;
  /** The recorded namespace is there. */
  readonly alive: boolean;
  /** The interface in the container; null where it is not there. */
  readonly inside: LinkView | null;
  /** Links of the host that belong to it: the other end of its veth first. */
  readonly outside: readonly LinkView[];
  /** Addresses by its result. */
  readonly addresses: readonly string[];
  /** Addresses reserved for it by host-local. */
  readonly leases: readonly string[];
  /** Its elements in the sets of our nftables table: `masquerade4 10.1.0.2`. */
  readonly elements: readonly string[];
  readonly journal: readonly JournalView[];
  /** A runtime cached its result. */
  readonly cached: boolean;
  readonly differences: readonly string[];
}

export interface JournalView {
  readonly plugin: string;
  readonly phase: "intent" | "done" | "leaving" | "torn";
  /** ISO 8601; empty in a torn record. */
  readonly createdAt: string;
  /** Made since the machine was started. */
  readonly thisBoot: boolean;
}

export interface LinkView {
  readonly name: string;
  readonly ifindex: number;
  /** "veth", "bridge", "dummy" …; empty for hardware and loopback. */
  readonly kind: string;
  readonly up: boolean;
  /** "up", "down", "unknown" …: RFC 2863 */
  readonly operState: string;
  readonly mac: string;
  readonly mtu: number;
  /** Name of the bridge or VRF that it is a port of; empty if of none. */
  readonly master: string;
  readonly addresses: readonly string[];
  readonly routes: readonly RouteView[];
}

export interface RouteView {
  /** "default" or a prefix. */
  readonly destination: string;
  /** Empty for what is on the link. */
  readonly gateway: string;
  /** 0 where none is set. */
  readonly metric: number;
}

export interface SandboxView {
  readonly name: string;
  readonly containerId: string;
  readonly netns: string;
  readonly state: "ready" | "changing" | "unfinished" | "lost" | "damaged";
  readonly createdAt: string;
  /** Networks by interface; their attachments are with the networks. */
  readonly networks: readonly { readonly network: string; readonly ifName: string }[];
  /** Everything in its namespace. */
  readonly links: readonly LinkView[];
  readonly processes: readonly { readonly pid: number; readonly command: string }[];
  readonly differences: readonly string[];
}
