import { afterEach, beforeEach, describe, expect } from "vitest";
import { readAllAddresses } from "#kernel/address.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { equalIp, parseIp } from "#net/ip.ts";
import { reconcile } from "#overlay/dataplane.ts";
import { desiredTunnels } from "#overlay/desired.ts";
import { Keys } from "#overlay/keys.ts";
import { formatRecord, type HostRecord } from "#overlay/record.ts";
import { ClusterView } from "#overlay/view.ts";
import { testWith } from "#testing/requires.ts";
import { Underlay } from "#testing/underlay.ts";
import { WireCapture } from "#testing/wire-capture.ts";
import { type End, ensureEnd, removeEnd } from "./end.ts";
import { KernelControl } from "./kernel-control.ts";
import { newPrivateKey, publicKeyOf } from "./key.ts";

const port = 51842;
const keys = new Keys("lab");
const secret = "6e657463746c2d736563726574";
let underlay: Underlay;
let namespaces: readonly NetworkNamespace[];
let privateKeys: readonly string[];
/** Where each host has told its peers to be, as the agent remembers it. */
let told: readonly Map<string, string>[];

beforeEach(() => {
  underlay = Underlay.create("wireguard", 2);
  namespaces = underlay.hosts.map(({ path }) => NetworkNamespace.open(path));
  privateKeys = [newPrivateKey(), newPrivateKey()];
  told = [new Map(), new Map()];
});
afterEach(() => {
  for (const namespace of namespaces) namespace.close();
  underlay.remove();
});

const at = <T>(list: readonly T[], number: number): T => {
  const found = list[number - 1];
  if (found === undefined) throw new Error(`there is no host ${number}`);
  return found;
};
const publicKey = (number: number): string => publicKeyOf(at(privateKeys, number));
const other = (number: number): number => 3 - number;

/** One look of a host at its end; what it has changed, in words. */
async function look(number: number): Promise<{ readonly end: End; readonly changes: readonly string[] }> {
  const changes: string[] = [];
  const peer = other(number);
  const end = await ensureEnd(
    {
      name: parseIfName(`nx${number}a`),
      key: { slot: "a", privateKey: at(privateKeys, number), port, isRetired: false },
      mtu: 1440,
      peers: [
        { publicKey: publicKey(peer), endpoint: { ip: parseIp(`203.0.113.${peer}`), port } },
        // Others, so that the device comes in several messages.
        ...Array.from({ length: 300 }, (_, index) => ({
          publicKey: Buffer.alloc(32, `${index}x`).toString("base64"),
          endpoint: { ip: parseIp("2001:db8:ff::9"), port },
        })),
      ],
      keepalive: 0,
    },
    {
      namespace: at(namespaces, number),
      told: at(told, number),
      startUserspace: () => Promise.reject(new Error("the kernel has no WireGuard")),
      changed: (words) => changes.push(words),
    },
  );
  return { end, changes };
}

/** The cluster, with one encrypted network in which each host has a block. */
function view(): ClusterView {
  const known = new ClusterView(keys);
  const put = (key: string, record: object) => {
    const entry = { key, value: formatRecord(record), revision: 1 };
    known.apply({ revision: 1, changes: [{ kind: "put", entry }] });
  };
  put(keys.cluster, { v: 1, uuid: "u", udpPort: 4789, vniMin: 1, vniMax: 100, pools: [] });
  const subnets = [{ cidr: parseCidr("10.32.0.0/16"), blockLength: 26 }];
  const network = { v: 1, name: "web", id: "0123", mode: "l3", vni: 42, subnets, internal: false };
  put(keys.network("web"), { ...network, encrypted: true, state: "active" });
  for (const number of [1, 2]) {
    const v4 = parseIp(`203.0.113.${number}`);
    const wireguard = { keys: [{ publicKey: publicKey(number), port }] };
    const host: HostRecord = {
      v: 1,
      id: `h${number}`,
      name: `h${number}`,
      underlay: { v4 },
      mtu: 1500,
      wireguard,
      state: "active",
    };
    put(keys.host(`h${number}`), host);
    const cidr = parseCidr(`10.32.${number}.0/26`);
    put(keys.block("web", cidr), { v: 1, cidr, host: `h${number}`, nonce: "n" });
  }
  return known;
}

function pass(number: number, end: End): void {
  const known = view();
  const self = known.hosts.get(`h${number}`);
  if (!self) throw new Error(`host ${number} is not known`);
  const namespace = at(namespaces, number);
  const device = (local: ReturnType<typeof parseIp>) =>
    readAllAddresses(namespace).find(({ address }) => equalIp(address.address, local))?.ifindex;
  expect(reconcile(namespace, desiredTunnels(known, self, [end]), device, true).failures).toEqual([]);
}

describe("the kernel's WireGuard", () => {
  testWith(
    ["vxlan", "wireguard"],
    "carries VXLAN between hosts, unreadable, and is left alone when it is right",
    async () => {
      for (const number of [1, 2]) {
        const { end } = await look(number);
        pass(number, end);
        underlay.host(number).run(`ip link add br0 type bridge; ip link set br0 up
        ip address add 10.32.${number}.2/26 dev br0`);
      }
      const capture = await WireCapture.start(underlay.wire, "p1");
      underlay.host(1).run(`ping -p ${secret} -I 10.32.1.2 -c2 -i0.2 -W10 10.32.2.2`);
      const captured = await capture.stop();
      expect(captured.includes(secret)).toBe(false);
      expect(captured.matching("udp port 4789")).toEqual([]);
      expect(captured.matching(`udp port ${port}`).length).toBeGreaterThanOrEqual(4);
      captured.remove();

      const { end, changes } = await look(1);
      expect(changes).toEqual([]);
      expect(end.handshakes.get(publicKey(2))).toBeGreaterThan(0);
      expect(end.handshakes.size).toBe(301);
      expect(end.received).toBeGreaterThan(0n);
    },
  );

  testWith(
    ["vxlan", "wireguard"],
    "has nothing but what it should: peers, key and address come back",
    async () => {
      const { end } = await look(1);
      const control = new KernelControl(at(namespaces, 1));
      const stranger = publicKeyOf(newPrivateKey());
      await control.change(end.name, {
        privateKey: newPrivateKey(),
        port: port + 7,
        peers: [
          { publicKey: stranger, allowed: [parseCidr("::/0")] },
          { publicKey: publicKey(2), remove: true },
        ],
      });
      underlay.host(1).run(`ip address flush dev ${end.name}; ip link set ${end.name} mtu 1300`);
      await look(1);
      const state = await control.read(end.name);
      expect(state.publicKey).toBe(publicKey(1));
      expect(state.port).toBe(port);
      expect(state.peers.has(stranger)).toBe(false);
      expect(state.peers.has(publicKey(2))).toBe(true);
      expect(underlay.host(1).run(`ip address show ${end.name}`)).toMatch(/mtu 1440[^]*inet6 fe80::/);
      expect((await look(1)).changes).toEqual([]);
      expect(removeEnd(at(namespaces, 1), end.name)).toBe(true);
      expect(underlay.host(1).run("ip link")).not.toContain(end.name);
    },
  );
});
