import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";

let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  lab = await ClusterLab.start(service, 2);
});
afterEach(async () => await lab.remove());

interface Finding {
  readonly id: string;
  readonly subject: string;
  readonly evidence: string;
  readonly remedy: string;
}

/** What the doctor on the first host says of overlay networks. */
async function found(): Promise<readonly Finding[]> {
  const text = await lab
    .netctl(1, "doctor", "overlay", "--json")
    .catch((error: unknown) => (error as { readonly stdout: string }).stdout);
  return (JSON.parse(text) as { readonly findings: readonly Finding[] }).findings;
}
const onWire = (rule: string) =>
  lab.underlay.wire.run(`nft add table bridge broken
    nft add chain bridge broken f "{ type filter hook forward priority 0; }"
    nft add rule bridge broken f '${rule}'`);
const mendWire = () => lab.underlay.wire.run("nft delete table bridge broken");

describe("netctl doctor overlay tries the ways to the other hosts", () => {
  testWith(["vxlan"], "and names what breaks them, and what helps", async () => {
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "web");
    for (const host of [1, 2]) {
      await lab.until(`host ${host} knows the network`, async () =>
        (await lab.netctl(host, "network", "ls", "--json")).includes('"web"'),
      );
      await lab.sandbox(host, `s${host}`, "web");
    }
    // Nothing to say also means: the other host's agent was asked for a stream, and all of it came.
    await lab.until("all is well", async () => (await found()).length === 0);

    onWire("udp dport 4789 drop");
    expect(await found()).toEqual([
      expect.objectContaining({
        id: "overlay-port",
        subject: "h2",
        evidence: expect.stringMatching(/h2 answers at 203\.0\.113\.2, .*UDP 4789 is dropped/) as string,
        remedy: expect.stringContaining("let UDP 4789 pass between 203.0.113.1 and 203.0.113.2") as string,
      }),
    ]);
    mendWire();

    // Inside of VXLAN: IPv4's protocol, with more than a handful of bytes.
    onWire("udp dport 4789 udp length > 400 @th,312,8 6 drop");
    expect(await found()).toEqual([
      expect.objectContaining({
        id: "overlay-bulk",
        subject: "h2",
        remedy: expect.stringContaining("ethtool -K up0 tx-udp_tnl-segmentation off") as string,
      }),
    ]);
    mendWire();

    // A bridge drops what its port does not take, and tells nobody.
    lab.underlay.wire.run("ip link set p2 mtu 1400");
    expect(await found()).toEqual([
      expect.objectContaining({
        id: "overlay-path-mtu",
        subject: "h2",
        evidence: expect.stringMatching(
          /up to 1350 bytes arrive, .*web send up to 1450: .*1400 bytes, and drops longer ones without a word/,
        ) as string,
        remedy: expect.stringContaining("ip link set up0 mtu 1400") as string,
      }),
    ]);
    lab.underlay.wire.run("ip link set p2 mtu 1500");

    // Who is told what the way takes.
    lab.host(1).run("ip route add 203.0.113.2/32 dev up0 mtu 1400");
    const [told] = await found();
    expect(told).toMatchObject({ id: "overlay-path-mtu", subject: "h2" });
    expect(told?.evidence).toMatch(/up to 1350 bytes arrive.*the way takes 1400 bytes$/);
    // What was told is kept for ten minutes.
    lab.host(1).run("ip route del 203.0.113.2/32 dev up0 mtu 1400; ip route flush cache");

    onWire("ip daddr 203.0.113.2 ip saddr 203.0.113.1 drop");
    expect(await found()).toEqual([expect.objectContaining({ id: "overlay-host-silent", subject: "h2" })]);
    mendWire();
    await lab.until("all is well again", async () => (await found()).length === 0);
    // Nothing stays in etcd of what was asked for.
    expect(await lab.etcdctl("get", "--prefix", "/netctl/v1/default/bulk/")).toBe("");
  });
});
