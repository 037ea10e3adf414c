import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, type Question } from "#testing/traffic.ts";

/**
 * Who reaches what, tried with packets: every source by every address that it could use, both families, TCP and UDP.
 * docs/reachability.md is what comes out; `NETCTL_WRITE_DOCS=1` writes it, otherwise it is compared.
 */
const documentPath = new URL("../docs/reachability.md", import.meta.url).pathname;

const lan = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
const loopback = { 4: "127.0.0.1", 6: "::1" } as const;

const mode = (word: string): JsonObject => ({ gatewayMode: { ipv4: word, ipv6: word } });
const apart = { networkIsolation: true };

/** Each with a container behind it, whose port 80 is published as `hostPort`. */
const networks = [
  { name: "net1", title: "nat", fields: { ...mode("nat"), ...apart }, hostPort: 8081 },
  {
    name: "net2",
    title: "nat-unprotected",
    fields: { ...mode("nat-unprotected"), ...apart },
    hostPort: 8082,
  },
  { name: "net3", title: "routed", fields: { ...mode("routed"), ...apart }, hostPort: 8083 },
  { name: "net4", title: "internal", fields: { ...mode("nat"), ...apart, internal: true }, hostPort: 8084 },
  {
    name: "net5",
    title: "isolated",
    fields: { ...mode("isolated"), ...apart, internal: true },
    hostPort: 8085,
  },
  { name: "net6", title: "as the reference", fields: {}, hostPort: 8086 },
] as const satisfies readonly { name: string; title: string; fields: JsonObject; hostPort: number }[];
type Network = (typeof networks)[number];

/** What somebody wants to reach. `hostPort` is tried by the host's addresses, `port` by the container's own. */
interface Target {
  readonly title: string;
  readonly network: Network;
  readonly port: number;
  readonly hostPort: number;
}

const loopbackPort = 8090;
const targets: readonly Target[] = networks.flatMap((network): readonly Target[] => [
  { title: `${network.title}: unpublished`, network, port: 82, hostPort: 82 },
  { title: `${network.title}: published`, network, port: 80, hostPort: network.hostPort },
  ...(network.name === "net1"
    ? [{ title: `${network.title}: published on 127.0.0.1`, network, port: 81, hostPort: loopbackPort }]
    : []),
]);

/** Whose packets, by which address of the target's. */
interface Row {
  readonly source: string;
  readonly by: string;
  readonly from: (target: Target) => TestNamespace;
  /** Undefined where there is no such address. */
  readonly address: (
    target: Target,
    family: 4 | 6,
  ) => { readonly to: string; readonly port: number } | undefined;
}

let rig: PortRig;
let containers: ReadonlyMap<Network, Published>;
let neighbours: ReadonlyMap<Network, Published>;
let stranger: Published;
let recluse: Published;

const published = (network: Network, hostIp?: string) =>
  ["tcp", "udp"].map((protocol) => ({
    hostPort: hostIp ? loopbackPort : network.hostPort,
    containerPort: hostIp ? 81 : 80,
    protocol,
    ...(hostIp ? { hostIP: hostIp } : {}),
  }));

beforeAll(async () => {
  rig = new PortRig();
  const made = new Map<Network, Published>();
  const beside = new Map<Network, Published>();
  for (const network of networks) {
    const { name, fields } = network;
    const mappings = [...published(network), ...(name === "net1" ? published(network, "127.0.0.1") : [])];
    made.set(network, await rig.attach({ network: name, bridgeFields: fields, mappings }));
    beside.set(network, await rig.attach({ network: name, bridgeFields: fields }));
  }
  stranger = await rig.attach({ network: "net7", bridgeFields: { ...mode("nat"), ...apart } });
  recluse = await rig.attach({ network: "net8", bridgeFields: { ...apart, internal: true } });
  [containers, neighbours] = [made, beside];
  await Promise.all(
    [...containers.values()].map(({ container }) => rig.serve(container, "target", [80, 81, 82])),
  );
  craftRoutes();
});

afterAll(async () => {
  await rig.close();
});

/** The neighbour on the LAN, and containers, come to know the ways they should not. */
function craftRoutes(): void {
  const { lan: crafted } = rig;
  crafted.run("ip addr flush dev lo; sysctl -qw net.ipv4.conf.all.route_localnet=1");
  crafted.run(`ip route add 127.0.0.1/32 via ${lan[4]}`);
  for (const n of [1, 2, 3, 4, 5, 6]) {
    crafted.run(`ip route add 10.${n}.0.0/24 via ${lan[4]}; ip route add fd00:${n}::/64 via ${lan[6]}`);
  }
  const internal = [
    recluse,
    ...networks.filter(({ name }) => ["net4", "net5"].includes(name)).flatMap(ofNetwork),
  ];
  for (const { container, ip4, ip6 } of internal) {
    const gateways = [`${ip4.replace(/\d+$/u, "")}1`, `${ip6.replace(/[^:]*$/u, "")}1`];
    container.run(`ip route add default via ${gateways[0]}; ip route add default via ${gateways[1]}`);
  }
}

const ofNetwork = (network: Network) => [containerOf(network), neighbourOf(network)];
const containerOf = (network: Network) => found(containers.get(network));
const neighbourOf = (network: Network) => found(neighbours.get(network));

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("it was not attached");
  return value;
}

const own = ({ network, port }: Target, family: 4 | 6) => {
  const { ip4, ip6 } = containerOf(network);
  return { to: family === 4 ? ip4 : ip6, port };
};
const byLan = ({ hostPort }: Target, family: 4 | 6) => ({ to: lan[family], port: hostPort });
const byLoopback = ({ hostPort }: Target, family: 4 | 6) => ({ to: loopback[family], port: hostPort });
/** The gateway's address in a network, which is one of the host's. */
const gateway = (name: string, family: 4 | 6) =>
  family === 4 ? `10.${name.slice(3)}.0.1` : `fd00:${name.slice(3)}::1`;
const byTheirGateway = ({ network, hostPort }: Target, family: 4 | 6) => ({
  to: gateway(network.name, family),
  port: hostPort,
});

const rows: readonly Row[] = [
  ...(
    [
      ["the container itself", ({ network }: Target) => containerOf(network).container],
      ["a neighbour", ({ network }: Target) => neighbourOf(network).container],
    ] as const
  ).flatMap(([source, from]): Row[] => [
    { source, by: "its own address", from, address: own },
    { source, by: "the host's LAN address", from, address: byLan },
    { source, by: "the gateway's address", from, address: byTheirGateway },
  ]),
  ...(
    [
      ["another network", "net7", () => stranger.container],
      ["an internal network", "net8", () => recluse.container],
    ] as const
  ).flatMap(([source, name, from]): Row[] => [
    { source, by: "its own address", from, address: own },
    { source, by: "the host's LAN address", from, address: byLan },
    {
      source,
      by: "the asker's gateway",
      from,
      address: ({ hostPort }, family) => ({ to: gateway(name, family), port: hostPort }),
    },
  ]),
  { source: "the host", by: "its own address", from: () => rig.namespace, address: own },
  { source: "the host", by: "127.0.0.1, [::1]", from: () => rig.namespace, address: byLoopback },
  { source: "the host", by: "the host's LAN address", from: () => rig.namespace, address: byLan },
  { source: "the LAN", by: "the host's LAN address", from: () => rig.lan, address: byLan },
  { source: "the LAN, crafted route", by: "its own address", from: () => rig.lan, address: own },
  { source: "the LAN, crafted route", by: "127.0.0.1, [::1]", from: () => rig.lan, address: byLoopback },
  {
    source: "the LAN, crafted route",
    by: "the gateway's address",
    from: () => rig.lan,
    address: byTheirGateway,
  },
];

/** One cell for each target: "4 6" where both families reach it. */
async function measure(): Promise<readonly (readonly string[])[]> {
  const cells = rows.flatMap((row) =>
    targets.flatMap((target) =>
      ([4, 6] as const).flatMap((family) => {
        const address = row.address(target, family);
        if (!address) return [];
        return (["tcp", "udp"] as const).map((protocol) => ({ row, target, family, protocol, ...address }));
      }),
    ),
  );
  const bySource = new Map<TestNamespace, (typeof cells)[number][]>();
  for (const cell of cells) {
    const from = cell.row.from(cell.target);
    bySource.set(from, [...(bySource.get(from) ?? []), cell]);
  }
  const reached = new Set<(typeof cells)[number]>();
  const askFrom = async (from: TestNamespace, group: readonly (typeof cells)[number][]) => {
    const questions = group.map(({ protocol, to, port }): Question => ({ protocol, to, port }));
    const answers = await ask(from, questions);
    answers.forEach((answer, index) => {
      if (answer.startsWith("target sees ")) reached.add(found(group[index]));
    });
  };
  // A few at a time, as each is a process.
  const waiting = [...bySource];
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) await askFrom(...next);
    }),
  );
  return rows.map((row) =>
    targets.map((target) => {
      const words = ([4, 6] as const).flatMap((family) => {
        const these = cells.filter(
          (each) => each.row === row && each.target === target && each.family === family,
        );
        const protocols = these.filter((each) => reached.has(each)).map(({ protocol }) => protocol);
        if (protocols.length === 0) return [];
        return [protocols.length === these.length ? String(family) : `${family} (${protocols.join()})`];
      });
      return words.join(" ") || "–";
    }),
  );
}

function render(table: readonly (readonly string[])[]): string {
  const perNetwork = networks.map((network) => {
    const columns = targets.flatMap((target, index) =>
      target.network === network ? [{ target, index }] : [],
    );
    const head = ["from", "by", ...columns.map(({ target }) => target.title.replace(/^.*: /u, ""))];
    const body = rows.map((row, at) => [
      row.source,
      row.by,
      ...columns.map(({ index }) => table[at]?.[index] ?? ""),
    ]);
    const lines = [head, head.map(() => "---"), ...body].map((cells) => `| ${cells.join(" | ")} |`);
    return `## ${heading(network)}\n\n${lines.join("\n")}`;
  });
  return `${introduction}\n${perNetwork.join("\n\n")}\n`;
}

function heading({ title, fields }: Network): string {
  if (Object.keys(fields).length === 0) return "A network in the reference's shape";
  const internal = "internal" in fields ? ", `internal`" : "";
  const word = title === "internal" ? "nat" : title;
  return `\`gatewayMode\` ${word}, \`networkIsolation\`${internal}`;
}

const introduction = `# Who reaches what

Made by a test, with packets (\`suite/reachability.netns.test.ts\`; \`NETCTL_WRITE_DOCS=1\` writes it anew). Each table is
a container in a network of one kind; each column one of its ports. A cell says by which families (IPv4, IPv6) the port is
reached, by TCP and UDP alike; – means not at all. [isolation.md](isolation.md) says why, and how to change it.

* *its own address*: the container's, at the port that its program listens on. For who is not on the same bridge, that takes a
  route by way of the host.
* *the host's LAN address*, *127.0.0.1*, *the gateway's address* (of the container's network, or of the asker's): at the
  port of the host that is published. *unpublished* is tried at the same number.
* *another network* is isolated and of mode nat; *an internal network* is internal and its container has made itself a
  default route; *the LAN, crafted route* is the same machine beside the host, which routes the containers' subnets, and
  127.0.0.1, by way of the host.
`;

it("is what docs/reachability.md says", async () => {
  const table = await measure();
  const text = render(table);
  if (process.env["NETCTL_WRITE_DOCS"] === "1") writeFileSync(documentPath, text);
  expect(readFileSync(documentPath, "utf8")).toBe(text);

  // What must never be, whatever the document says.
  const cell = (source: string, by: string, target: string) => {
    const row = rows.findIndex((each) => each.source === source && each.by === by);
    const column = targets.findIndex(({ title }) => title === target);
    return found(table[row]?.[column]);
  };
  for (const { source, by } of rows.filter((row) => row.source === "an internal network")) {
    for (const { title } of targets) expect(cell(source, by, title), `${source} ${by} ${title}`).toBe("–");
  }
  for (const { title } of targets) {
    expect(cell("the LAN, crafted route", "127.0.0.1, [::1]", title)).toBe("–");
    if (/unpublished/u.test(title)) expect(cell("the LAN", "the host's LAN address", title)).toBe("–");
    if (/^(nat|internal|isolated):/u.test(title)) {
      expect(cell("the LAN, crafted route", "its own address", title), title).toBe("–");
    }
    if (!title.startsWith("as the reference") && title !== "routed: published") {
      expect(cell("another network", "its own address", title), title).toBe("–");
    }
  }
  expect(cell("another network", "the host's LAN address", "nat: published")).toBe("4 6");
  expect(cell("the LAN", "the host's LAN address", "nat: published")).toBe("4 6");
  expect(cell("the LAN, crafted route", "its own address", "routed: published")).toBe("4 6");
  expect(cell("the host", "127.0.0.1, [::1]", "nat: published on 127.0.0.1")).toBe("4");
});
