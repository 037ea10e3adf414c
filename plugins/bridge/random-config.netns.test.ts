import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import { cniVersions } from "#cni/version.ts";
import { readAddresses, removeAddress } from "#kernel/address.ts";
import { isPromiscuous } from "#kernel/bridge.ts";
import { type Link, listLinks, removeLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { formatCidr } from "#net/cidr.ts";
import { isLinkLocal } from "#net/ip.ts";
import { BridgeRig } from "#testing/bridge-rig.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ownedSets } from "./elements.ts";
import { bridge } from "./main.ts";

/** What a runtime may be made to ask for, and how it then takes it back. */
interface Attempt {
  readonly config: JsonObject;
  readonly containerId: string;
  readonly ifName: string;
  readonly args: string;
  readonly netns: "container" | "host" | "missing" | "file";
  readonly del: { readonly withNetns: boolean; readonly withResult: boolean; readonly twice: boolean };
}

/** Fewer for an emulated machine: scripts/vm/steps.mjs. */
const configurations = Number(process.env["NETCTL_RANDOM_CONFIGURATIONS"] ?? 10_000);
/** Some are tried at the same time, four by four; all others one after the other, and looked at more strictly. */
const groupSize = 4;
const groups = Math.ceil(configurations / 14);
const oneByOne = configurations - groups * groupSize;
/** Both together take a minute or so; on a machine that does ten other things, ten. */
const timeoutMs = 30 * 60_000;

let rig: BridgeRig;
let containers: TestNamespace[];
/** Held open, so that looking costs no process. */
let opened: NetworkNamespace[];

function setUp(): void {
  rig = new BridgeRig();
  containers = Array.from({ length: groupSize }, () => rig.container());
  opened = containers.map(({ path }) => rig.host.kernel.open(path));
}
async function tearDown(): Promise<void> {
  for (const namespace of opened) namespace.close();
  await rig.close();
}
beforeEach(setUp);
afterEach(tearDown);

const flag = fc.boolean();
/** Mostly the default, so that one odd field does not hide what the others do. */
const seldom = <Value>(value: fc.Arbitrary<Value>, otherwise: Value, weight = 12) =>
  fc.oneof({ weight, arbitrary: fc.constant(otherwise) }, { weight: 1, arbitrary: value });

const subnets = ["10.1.0.0/24", "10.2.0.0/30", "192.168.7.0/28", "fd00:1::/64", "fd00:2::/120"] as const;
const addresses = ["10.1.0.5/24", "10.1.0.1/24", "10.9.0.7/32", "fd00:1::5/64", "10.1.0.5/16"] as const;

const routes = fc.array(
  fc.record(
    {
      dst: fc.constantFrom("0.0.0.0/0", "10.7.0.0/16", "::/0", "fd00:7::/48", "10.1.0.9/32", "224.0.0.0/4"),
      gw: fc.constantFrom("10.1.0.1", "10.1.0.200", "fd00:1::1", "fe80::1", "172.31.0.1"),
      mtu: fc.constantFrom(0, 1400),
      priority: fc.constantFrom(0, 100),
      table: fc.constantFrom(254, 100, 1000),
      scope: fc.constantFrom(0, 253, 254),
    },
    { requiredKeys: ["dst"] },
  ),
  { maxLength: 3 },
);

const hostLocal = fc
  .record({
    sets: fc.uniqueArray(fc.constantFrom(...subnets), { minLength: 1, maxLength: 2 }),
    routes: seldom(routes, []),
  })
  .map(({ sets, routes }) => ({
    type: "host-local",
    ranges: sets.map((subnet) => [{ subnet }]),
    ...(routes.length > 0 ? { routes } : {}),
  }));

const fixed = fc.record({
  type: fc.constant("static"),
  addresses: fc.uniqueArray(
    fc.record(
      {
        address: fc.constantFrom(...addresses),
        gateway: fc.constantFrom("", "", "", "10.1.0.1", "10.9.0.1", "fd00:1::1"),
      },
      { requiredKeys: ["address"] },
    ),
    { minLength: 1, maxLength: 2, selector: ({ address }) => address },
  ),
  routes: seldom(routes, []),
});

/** Nothing in it is wrong by itself; together its fields may be. */
const plausible: fc.Arbitrary<JsonObject> = fc
  .record(
    {
      bridge: fc.constantFrom("br1", "br2", "cni0"),
      isGateway: flag,
      isDefaultGateway: flag,
      forceAddress: flag,
      ipMasq: flag,
      ipMasqBackend: fc.constantFrom("nftables", "iptables", ""),
      mtu: seldom(fc.constantFrom(68, 1000, 1400, 65_535), 0),
      hairpinMode: flag,
      promiscMode: seldom(flag, false),
      macspoofchk: flag,
      portIsolation: flag,
      disableContainerInterface: seldom(flag, false),
      vlan: seldom(fc.constantFrom(5, 4094), 0),
      vlanTrunk: seldom(fc.constantFrom<JsonValue>([{ id: 5 }], [{ minID: 9, maxID: 12, id: 9 }]), []),
      preserveDefaultVlan: flag,
      dns: fc.constantFrom({}, { nameservers: ["10.0.0.1"], search: [] }),
      runtimeConfig: seldom(
        fc.record({
          mac: fc.constantFrom("02:00:00:00:00:01", ""),
          ips: fc.subarray(["10.1.0.77", "10.1.0.78/24", "fd00:1::77/64"], { maxLength: 2 }),
        }),
        { mac: "", ips: [] },
      ),
      ipam: fc.oneof(
        { weight: 6, arbitrary: hostLocal },
        { weight: 2, arbitrary: fixed },
        { weight: 1, arbitrary: fc.constant({}) },
        { weight: 1, arbitrary: fc.constantFrom({ type: "nothing" }, { type: "bridge" }) },
      ),
    },
    { requiredKeys: ["bridge", "ipam"] },
  )
  .chain((fields) =>
    fc.record({
      cniVersion: fc.constantFrom(...cniVersions),
      name: fc.constantFrom("net1", "net2"),
      type: fc.constant("bridge"),
      ...Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, fc.constant(value)])),
    }),
  );

/** The paths of a value: a list of keys each. */
function pathsOf(value: JsonValue, path: readonly string[] = []): (readonly string[])[] {
  const inner =
    typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([key, each]) => pathsOf(each, [...path, key]))
      : [];
  return path.length === 0 ? inner : [path, ...inner];
}

function withValueAt(value: JsonValue, [key, ...rest]: readonly string[], put: JsonValue): JsonValue {
  if (key === undefined) return put;
  if (Array.isArray(value)) {
    return value.map((each: JsonValue, index) =>
      String(index) === key ? withValueAt(each, rest, put) : each,
    );
  }
  const object = value as JsonObject;
  return { ...object, [key]: withValueAt(object[key] ?? null, rest, put) };
}

const odd: fc.Arbitrary<JsonValue> = fc.oneof(
  fc.constantFrom<JsonValue>("", -1, 1.5, 1e300, null, true, "lo", "..", "a/b", "br%d", "::1", "0.0.0.0/0", [
    [],
  ]),
  fc.constantFrom<JsonValue>(
    "255.255.255.255",
    "10.1.0.300",
    "10.1.0.0/33",
    "ff02::1/64",
    "\0",
    "x".repeat(300),
  ),
  fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<JsonValue>,
);

/** One field is something else, at whatever depth. */
const nearlyPlausible = plausible.chain((config) =>
  fc
    .record({ path: fc.constantFrom(...pathsOf(config)), put: odd })
    .map(({ path, put }) => withValueAt(config, path, put) as JsonObject),
);

const keys = [
  "bridge",
  "isGateway",
  "ipMasq",
  "mtu",
  "vlan",
  "vlanTrunk",
  "ipam",
  "dns",
  "runtimeConfig",
  "args",
];
const wild = fc
  .record({ fields: fc.dictionary(fc.constantFrom(...keys, "PREVRESULT", "Name"), odd), plausible })
  .map(({ fields, plausible: { cniVersion = "", ipam = {} } }): JsonObject => {
    return { cniVersion, name: "net1", type: "bridge", ipam, ...fields };
  });

const attempt: fc.Arbitrary<Attempt> = fc.record({
  config: fc.oneof(
    { weight: 6, arbitrary: plausible },
    { weight: 3, arbitrary: nearlyPlausible },
    { weight: 1, arbitrary: wild },
  ),
  containerId: seldom(fc.constantFrom("c", "C_1.x-", "c".repeat(300), "a/b", "..", "-c", "é"), "c1", 12),
  ifName: seldom(
    fc.constantFrom("e", "eth0.5", "fifteen-bytes-x", "lo", "a/b", "eth%d", "all", ""),
    "eth0",
    12,
  ),
  args: seldom(
    fc.constantFrom(
      "IgnoreUnknown=1;K8S_POD_NAME=x;MAC=02:00:00:00:00:09",
      "IP=10.1.0.99",
      "IP=10.1.0.99/24;GATEWAY=10.1.0.1",
      "MAC=zz",
      "FOO=1",
      ";;",
    ),
    "",
  ),
  netns: seldom(fc.constantFrom("host", "missing", "file"), "container", 20),
  del: fc.record({ withNetns: flag, withResult: flag, twice: seldom(flag, false) }),
});

function netnsOf({ netns }: Attempt, container: TestNamespace): string {
  return {
    container: container.path,
    host: rig.namespace.path,
    missing: "/nonexistent",
    file: "/etc/hostname",
  }[netns];
}

/** What of attachments there is, by the same sockets as the plugin, so that looking costs next to nothing. */
async function look(inside: readonly NetworkNamespace[] = opened): Promise<readonly string[]> {
  const { kernel, journal, nftables, directories } = rig.host;
  const left = [
    ...listLinks(kernel.namespace).flatMap(({ kind, name }) => (kind === "veth" ? [`link ${name}`] : [])),
    ...inside.flatMap((each) =>
      listLinks(each).flatMap(({ name }) => (name === "lo" ? [] : [`inside ${name}`])),
    ),
    ...journal.list().map(({ key, phase }) => `record ${key.containerId} ${phase}`),
    ...leasesIn(directories.leases),
  ];
  for (const set of ownedSets) {
    const elements = await nftables.list(set);
    left.push(...elements.map(({ comment }) => `element of ${set}: ${comment}`));
  }
  return left;
}

/** What an ADD could change on the bridges, which are shared. */
function lookAtBridges(): readonly string[] {
  const { namespace } = rig.host.kernel;
  return bridgesOf(namespace).map((link) => {
    // The link-local one comes by itself, soon after the first port.
    const addresses = readAddresses(namespace, link.ifindex).flatMap(({ address }) =>
      isLinkLocal(address.address) ? [] : [formatCidr(address)],
    );
    return [link.name, link.up, isPromiscuous(link), link.mtu, link.bridge?.vlanFiltering, ...addresses].join(
      " ",
    );
  });
}

function bridgesOf(namespace: NetworkNamespace): readonly Link[] {
  return listLinks(namespace).filter(({ kind }) => kind === "bridge");
}

function leasesIn(directory: string): readonly string[] {
  if (!existsSync(directory)) return [];
  const networks = readdirSync(directory).filter((name) => !name.startsWith("."));
  return networks.flatMap((network) =>
    readdirSync(join(directory, network))
      .filter((name) => !/^(lock|last_reserved_ip\.)/.test(name))
      .map((name) => `lease ${network} ${name}`),
  );
}

/** They are the networks' and stay. The next attempt shall find neither the addresses of this one nor hundreds of them. */
async function tidyBridges(): Promise<void> {
  const { namespace } = rig.host.kernel;
  for (const { ifindex, name } of bridgesOf(namespace)) {
    if (!/^br[12]$/.test(name)) await removeLink(namespace, ifindex);
    else
      for (const { address } of readAddresses(namespace, ifindex)) removeAddress(namespace, ifindex, address);
  }
}

/** One ADD. What it answers has to be of the contract's form, whatever it was asked. */
async function add(one: Attempt, container: TestNamespace): Promise<JsonObject | undefined> {
  const { config, containerId, ifName, args } = one;
  const { exitCode, json } = await rig.add(config, {
    containerId,
    ifName,
    args,
    netns: netnsOf(one, container),
  });
  if (exitCode === 0) {
    expect(json["cniVersion"]).toBe(config["cniVersion"] || "0.1.0");
    return json;
  }
  expect(exitCode).toBe(1);
  expect(json["code"]).toEqual(expect.any(Number));
  expect(json["msg"]).toMatch(/./);
  // A fault of ours: the text of V8, not of this project.
  expect(json["msg"]).not.toMatch(/is not a function|undefined|Cannot read propert|\[object|Maximum call/);
  return undefined;
}

async function del(one: Attempt, container: TestNamespace, result: JsonObject | undefined): Promise<void> {
  const { containerId, ifName, args } = one;
  const { withNetns, withResult, twice } = one.del;
  const config = withResult && result ? { ...one.config, prevResult: result } : one.config;
  const netns = withNetns && one.netns !== "host" ? netnsOf(one, container) : "";
  for (let time = 0; time < (twice ? 2 : 1); time++) {
    const answer = await rig.call(bridge, "DEL", config, { containerId, ifName, args, netns });
    // An ADD that was refused may be one that not even DEL understands.
    if (result) expect(answer).toMatchObject({ exitCode: 0, json: {} });
  }
}

/** After a failure the next try, of a smaller example, begins on a clean host. */
async function onCleanHost(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    await tearDown();
    setUp();
    throw error;
  }
}

/** The same by other eyes than the suite's own. */
function expectNothingLeft(): void {
  expect(rig.links().filter((name) => name.startsWith("veth"))).toEqual([]);
  for (const container of containers) expect(rig.links(container)).toEqual(["lo"]);
  expect(rig.elements().filter((element) => !element.startsWith("same_subnet"))).toEqual([]);
  expect(rig.files()).toEqual([]);
}

test(
  `${oneByOne} random configurations never crash the plugin; refused ones leave nothing at all, others until DEL`,
  async () => {
    const outcomes = { added: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(attempt, async (one) => {
        await onCleanHost(async () => {
          const [container] = containers;
          if (!container) return;
          const before = lookAtBridges();
          const result = await add(one, container);
          if (result) outcomes.added++;
          else {
            outcomes.refused++;
            expect(await look(opened.slice(0, 1))).toEqual([]);
            expect(lookAtBridges()).toEqual(before);
          }
          await del(one, container, result);
          expect(await look(opened.slice(0, 1))).toEqual([]);
          await tidyBridges();
        });
      }),
      { numRuns: oneByOne },
    );
    expectNothingLeft();
    expect(outcomes.added).toBeGreaterThan(oneByOne / 10);
    expect(outcomes.refused).toBeGreaterThan(oneByOne / 10);
  },
  timeoutMs,
);

test(
  `${groups * groupSize} of them at the same time leave nothing either`,
  async () => {
    const group = fc.array(attempt, { minLength: groupSize, maxLength: groupSize });
    await fc.assert(
      fc.asyncProperty(group, async (several) => {
        await onCleanHost(async () => {
          const ended = await Promise.allSettled(
            several.map(async (each, index) => {
              const container = containers[index];
              const one = { ...each, containerId: `${each.containerId}${index}` };
              if (container) await del(one, container, await add(one, container));
            }),
          );
          for (const each of ended) if (each.status === "rejected") throw each.reason;
          expect(await look()).toEqual([]);
          await tidyBridges();
        });
      }),
      { numRuns: groups },
    );
    expectNothingLeft();
  },
  timeoutMs,
);
