import type { Container } from "#netctl/containers/container.ts";
import type { LinkView } from "#netctl/inspect/model.ts";

/** Namespaces, what is in them, and how their links hang together: plain JSON, addresses as text. */
export interface Topology {
  readonly schema: "netctl.topology/1";
  /** The host first, then by name. */
  readonly namespaces: readonly NamespaceView[];
  /** What could not be looked at, and why: the rest is true all the same. */
  readonly problems: readonly string[];
}

export interface NamespaceView {
  /** "host", or "net:[4026532673]" as the kernel writes it: unique while it lives. */
  readonly id: string;
  /** What people call it: sandbox, container or pod, file name, or its first process. */
  readonly name: string;
  readonly kind: "host" | "sandbox" | "pod" | "container" | "namespace";
  /** Of netctl; null for anybody else's. */
  readonly sandbox: string | null;
  /** Containers of any runtime that are in it. */
  readonly containers: readonly Container[];
  /** Ids under which CNI plugins of this suite have attached it. */
  readonly containerIds: readonly string[];
  /** Where it is mounted. */
  readonly paths: readonly string[];
  /** Of the host, and where there are many, only the first ones. */
  readonly processes: readonly { readonly pid: number; readonly command: string }[];
  readonly processCount: number;
  readonly links: readonly TopologyLink[];
  /** Ports of the host that lead here: `0.0.0.0:8080 -> 80/tcp`. */
  readonly ports: readonly string[];
}

export interface TopologyLink extends LinkView {
  readonly isLoopback: boolean;
  /** The network by whose record it was made, or whose configuration names it; null where neither says so. */
  readonly network: string | null;
  /** A bridge of a network that is cut off from the outside. */
  readonly isInternal: boolean;
  /** The other end of a veth, or the link that a VLAN, macvlan or ipvlan stands on; null where it is not known. */
  readonly below: LinkEnd | null;
  readonly counters: LinkCounters | null;
}

export interface LinkEnd {
  readonly relation: "peer" | "parent";
  /** `NamespaceView.id` */
  readonly namespace: string;
  readonly link: string;
}

/** Since the link was made. */
export interface LinkCounters {
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxDropped: number;
  readonly txDropped: number;
  readonly rxErrors: number;
  readonly txErrors: number;
}
