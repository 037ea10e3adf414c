import { afterAll, beforeAll, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";

let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
  lab = await ClusterLab.start(service, 3);
}, 120_000);
afterAll(async () => {
  await lab.remove();
  service.remove();
});

const inside = (host: number, sandbox: string, script: string): string =>
  lab.host(host).run(`nsenter --net=${lab.path(host, "run", "netns", sandbox)} ${script}`);

const macOf = (host: number, sandbox: string): string => {
  const [link] = JSON.parse(inside(host, sandbox, "ip -j link show eth0")) as { readonly address: string }[];
  return link?.address ?? "";
};

async function idOf(name: string): Promise<string> {
  const listed = JSON.parse(await lab.netctl(1, "cluster", "host", "ls", "--json")) as readonly {
    readonly id: string;
    readonly name: string;
  }[];
  return listed.find((each) => each.name === name)?.id ?? "";
}

describe("an address of a network of mode l2", () => {
  testWith(["vxlan"], "is where it was made last, though its old host never said goodbye", async () => {
    // Two blocks: one for the observer's host, and one that moves.
    const flags = ["--subnet", "10.9.0.0/25", "--opt", "mode=l2", "--disable-dns"];
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "flat", ...flags);
    for (const host of [1, 2, 3])
      await lab.until(`host ${host} knows flat`, async () =>
        (await lab.netctl(host, "network", "ls", "--json")).includes('"flat"'),
      );
    await lab.sandbox(1, "observer", "flat");
    const address = await lab.sandbox(2, "old", "flat");
    await lab.untilPings(1, "observer", address);
    const known = () => inside(1, "observer", `ip neigh show ${address}`);
    const before = macOf(2, "old");
    expect(known()).toContain(before);

    // While its host has it, nobody else gets it.
    const again = ["sandbox", "create", "new", "--network", "flat", "--ip", address];
    await expect(lab.netctl(1, ...again)).rejects.toMatchObject({
      stderr: expect.stringContaining(address) as string,
    });

    // The host is cut off, and given up; its container still lives.
    const id = await idOf("h2");
    await lab.killNetd(2);
    await lab.etcdctl("del", `/netctl/v1/default/live/${id}`);
    await lab.netctl(1, "cluster", "host", "rm", id);
    await lab.netctl(3, ...again);
    const after = macOf(3, "new");
    expect(after).not.toBe(before);
    // Without asking again: it was told under which MAC address it is now.
    await lab.until("the observer is told", () => known().includes(after));
    await lab.untilPings(1, "observer", address);
    inside(1, "observer", "ip neigh flush dev eth0");
    await lab.untilPings(1, "observer", address);
    expect(known()).toContain(after);

    // The old one comes back with its container, and takes nothing away; nor does its late DEL.
    lab.startNetd(2);
    const status = async () => await lab.netctl(2, "cluster", "status").catch(String);
    await lab.until("host 2 says what is wrong", async () =>
      (await status()).includes("which is another host's by now"),
    );
    const endpoints = async () => await lab.etcdctl("get", "--prefix", "/netctl/v1/default/ep/flat/");
    expect(await endpoints()).not.toContain(before);
    inside(1, "observer", "ip neigh flush dev eth0");
    await lab.untilPings(1, "observer", address);
    expect(known()).toContain(after);
    await lab.netctl(2, "sandbox", "rm", "old");
    expect(await endpoints()).toContain(after);
    await lab.untilPings(1, "observer", address);
    expect(known()).toContain(after);
  });
});
