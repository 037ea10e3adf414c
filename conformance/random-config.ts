import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Lab } from "./lab.ts";

/** A generator of numbers in [0, 1) that gives the same ones for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function pick<T>(random: () => number, choices: readonly T[]): T {
  const chosen = choices[Math.floor(random() * choices.length)];
  if (chosen === undefined) throw new RangeError("Cannot pick from nothing");
  return chosen;
}

const junk: readonly JsonValue[] = [
  null,
  true,
  false,
  0,
  1,
  -1,
  1.5,
  4094,
  4095,
  65_536,
  2_147_483_648,
  1e300,
  "",
  " ",
  "x",
  "br0",
  "lo",
  "a/b",
  "..",
  "\u0000",
  "é",
  "%s%n",
  "x".repeat(300),
  "10.77.0.9",
  "10.77.0.9/24",
  "fd00:77::9",
  "::",
  "0.0.0.0/0",
  "02:00:00:00:00:09",
  [],
  [[]],
  [null],
  ["x"],
  [1],
  {},
  { a: 1 },
  { __proto__: null, constructor: "x" },
];

const subnets = [
  "10.77.0.0/24",
  "10.77.0.0/30",
  "10.77.0.5/24",
  "10.77.0.0/31",
  "fd00:77::/64",
  "fd00:77::/127",
  "0.0.0.0/0",
  "::/0",
  "127.0.0.0/8",
  "224.0.0.0/4",
];
const addresses = [
  "10.77.0.1",
  "10.77.0.7",
  "10.77.0.254",
  "10.77.0.255",
  "10.78.0.1",
  "fd00:77::1",
  "0.0.0.0",
  "not-an-ip",
];

/** Plausible values for the fields that a plugin reads; junk otherwise. */
const fieldsOfBridge: Readonly<Record<string, readonly JsonValue[]>> = {
  cniVersion: ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "9.9.9"],
  name: ["net-a", "n.e_t-1"],
  bridge: ["br0", "br1", "lo", "br-with-a-name-too-long"],
  isGateway: [true, false],
  isDefaultGateway: [true, false],
  forceAddress: [true, false],
  ipMasq: [true, false],
  ipMasqBackend: ["iptables", "nftables", "pf"],
  mtu: [0, 68, 1279, 1280, 1400, 65_535, 65_536],
  hairpinMode: [true, false],
  promiscMode: [true, false],
  vlan: [0, 1, 100, 4094, 4095],
  vlanTrunk: [[{ id: 5 }], [{ minID: 5, maxID: 3 }], [{ minID: 5 }]],
  macspoofchk: [true, false],
  enabledad: [true, false],
  portIsolation: [true, false],
  disableContainerInterface: [true, false],
  dns: [{}, { nameservers: ["192.0.2.1"] }, { search: [] }],
  args: [{ cni: { mac: "02:00:00:00:00:01" } }, { cni: { ips: ["10.77.0.8"] } }, { cni: null }],
  runtimeConfig: [
    { mac: "02:00:00:00:00:02" },
    { ips: ["10.77.0.9/24"] },
    { ipRanges: [[{ subnet: "10.79.0.0/24" }]] },
  ],
  prevResult: [{ cniVersion: "1.0.0", ips: [] }, { cniVersion: "0.4.0" }],
};

const fieldsOfIpam: Readonly<Record<string, readonly JsonValue[]>> = {
  subnet: subnets,
  rangeStart: addresses,
  rangeEnd: addresses,
  gateway: addresses,
  routes: [[{ dst: "0.0.0.0/0" }], [{ dst: "192.0.2.0/24", gw: "10.77.0.9" }], [{ dst: "::/0" }], [{}]],
  ranges: [
    [[{ subnet: "10.78.0.0/24" }]],
    [[{ subnet: "10.77.0.0/25" }], [{ subnet: "10.77.0.0/24" }]],
    [[]],
  ],
};

/**
 * A configuration of bridge with host-local, with up to six fields turned to something else. Its type, the
 * IPAM's type and the dataDir stay: the first two would call other programs, the last leave the lab.
 */
export function randomConfig(random: () => number, lab: Lab): JsonObject {
  const ipam: Record<string, JsonValue> = {
    type: "host-local",
    dataDir: lab.dataDir,
    subnet: "10.77.0.0/24",
  };
  const config: Record<string, JsonValue> = {
    cniVersion: "1.0.0",
    name: "net-a",
    type: "bridge",
    bridge: "br0",
  };
  const mutations = 1 + Math.floor(random() * 6);
  for (let at = 0; at < mutations; at += 1) {
    const inIpam = random() < 0.35;
    const table = inIpam ? fieldsOfIpam : fieldsOfBridge;
    const key = pick(random, Object.keys(table));
    const value = random() < 0.3 ? pick(random, junk) : pick(random, table[key] ?? junk);
    (inIpam ? ipam : config)[key] = value;
  }
  return random() < 0.05 ? config : { ...config, ipam };
}

/** Bytes that are JSON or nearly so. */
export function randomStdin(random: () => number, lab: Lab): string {
  const text = JSON.stringify(randomConfig(random, lab));
  const at = Math.floor(random() * text.length);
  switch (Math.floor(random() * 4)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return `${text.slice(0, at)}${pick(random, ["{", "}", "[", '"', ",", "\u0000", "\\", "1e9"])}${text.slice(at)}`;
    case 2:
      return `${text.slice(0, at)}${text.slice(at + 1)}`;
    default:
      return text + pick(random, [" ", "\n", "}", "x", text]);
  }
}
