import type { LinkCounters, NamespaceView, Topology } from "#netctl/topology/model.ts";

/** What went through one interface of a container between two looks, a second. */
export interface Rate {
  readonly name: string;
  readonly kind: NamespaceView["kind"];
  readonly link: string;
  readonly network: string | null;
  readonly addresses: readonly string[];
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly dropped: number;
  readonly errors: number;
  /** That the host tracks now, begun or answered by it; null where they can't be counted. */
  readonly connections: number | null;
}

/** One look at all interfaces. */
export interface Look {
  /** Monotonic. */
  readonly atMs: number;
  readonly topology: Topology;
  /** Connections by address; undefined where they can't be counted. */
  readonly connections: ReadonlyMap<string, number> | undefined;
}

/**
 * The rates between two looks, of every interface that was there at both. Of a container as it sees them: received is
 * what came to it.
 * @param isShown which namespaces are wanted
 */
export function ratesBetween(
  before: Look,
  now: Look,
  isShown: (namespace: NamespaceView) => boolean,
): readonly Rate[] {
  const seconds = Math.max(now.atMs - before.atMs, 1) / 1000;
  const earlier = new Map(
    before.topology.namespaces.flatMap(({ id, links }) =>
      links.map(({ ifindex, counters }) => [`${id} ${ifindex}`, counters] as const),
    ),
  );
  return now.topology.namespaces.filter(isShown).flatMap((namespace) =>
    namespace.links
      .filter(({ isLoopback }) => !isLoopback)
      .flatMap((link): readonly Rate[] => {
        const from = earlier.get(`${namespace.id} ${link.ifindex}`);
        const to = link.counters;
        if (!from || !to) return [];
        const rate = (pick: (counters: LinkCounters) => number) =>
          Math.max(0, pick(to) - pick(from)) / seconds;
        const addresses = link.addresses
          .map((each) => each.replace(/\/\d+$/, ""))
          .filter((each) => !each.startsWith("fe80:"));
        const { connections } = now;
        return [
          {
            name: namespace.name,
            kind: namespace.kind,
            link: link.name,
            network: link.network,
            addresses,
            rxBytes: rate(({ rxBytes }) => rxBytes),
            txBytes: rate(({ txBytes }) => txBytes),
            rxPackets: rate(({ rxPackets }) => rxPackets),
            txPackets: rate(({ txPackets }) => txPackets),
            dropped: rate(({ rxDropped, txDropped }) => rxDropped + txDropped),
            errors: rate(({ rxErrors, txErrors }) => rxErrors + txErrors),
            connections:
              connections === undefined
                ? null
                : addresses.reduce((sum, address) => sum + (connections.get(address) ?? 0), 0),
          },
        ];
      }),
  );
}
