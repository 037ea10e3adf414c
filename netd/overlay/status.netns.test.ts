import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";
import { TestNamespace } from "#testing/test-namespace.ts";

let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
afterEach(async () => await lab.remove());

const config = (name: string) => ({ cniVersion: "1.1.0", name, type: "overlay-vxlan" });
const status = async (name: string) => await lab.plugin(1, config(name), { CNI_COMMAND: "STATUS" });
const create = async (name: string) => {
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "--disable-dns", name);
};

describe("STATUS and CHECK of an overlay network", () => {
  beforeEach(async () => {
    // Five addresses for containers in each network.
    lab = await ClusterLab.start(service, 1, ["--pool", "10.32.0.0/12,29,29"]);
  });

  testWith(["vxlan"], "say what an ADD would meet, and what a container has", async () => {
    await lab.until("the agent says how it is", async () =>
      /no such network/.test((await status("nowhere")).msg ?? ""),
    );
    expect(await status("nowhere")).toMatchObject({ code: 50 });
    for (const name of ["web", "full", "late"]) await create(name);
    // Nobody has addresses yet: the first ADD gets some.
    expect(await status("web")).toEqual({});
    await lab.sandbox(1, "s1", "web");
    for (let index = 1; index <= 5; index++) await lab.sandbox(1, `f${index}`, "full");
    expect(await status("web")).toEqual({});
    expect(await status("full")).toMatchObject({
      code: 50,
      msg: expect.stringMatching(/all in use/) as string,
    });
    await lab.netctl(1, "sandbox", "rm", "f5");
    expect(await status("full")).toEqual({});

    await lab.killEtcd();
    await lab.until("the engine is missed", async () => (await status("web")).code === 51);
    expect((await status("web")).msg).toContain("the engine has been away");
    expect(await status("late")).toMatchObject({
      code: 50,
      msg: expect.stringMatching(/no addresses in it, and the engine has been away/) as string,
    });
    lab.startEtcd();
    await lab.untilEtcdAnswers();
    await lab.until("the engine is back", async () => (await status("web")).code === undefined);
    expect(await status("late")).toEqual({});

    const container = TestNamespace.create("c");
    try {
      const call = { CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_NETNS: container.path };
      const prevResult = await lab.plugin(1, config("web"), { ...call, CNI_COMMAND: "ADD" });
      expect(prevResult.code).toBeUndefined();
      const check = async () =>
        await lab.plugin(1, { ...config("web"), prevResult } as ReturnType<typeof config>, {
          ...call,
          CNI_COMMAND: "CHECK",
        });
      expect(await check()).toEqual({});
      await lab.killNetd(1);
      const [tunnel] = lab.host(1).json<{ ifname: string }>("ip -j link show type vxlan");
      lab.host(1).run("ip -o link show type vxlan | cut -d: -f2 | xargs -n1 ip link del");
      expect((await check()).msg).toContain(`tunnel ${tunnel?.ifname ?? ""}`.slice(0, 9));
      // Nothing has been heard of it for a minute.
      lab.host(1).run(`touch -d "1 minute ago" ${lab.path(1, "run", "overlay", "status.json")}`);
      await lab.until("the agent is missed", async () => (await status("web")).code === 51);
      expect((await status("web")).msg).toContain("netd's agent does not run");
      await lab.plugin(1, config("web"), { ...call, CNI_COMMAND: "DEL" });
    } finally {
      container.remove();
    }
  });
});

describe("a cluster of one host, without etcd", () => {
  beforeEach(async () => {
    lab = await ClusterLab.startAlone(service);
  });

  testWith(["vxlan"], "has networks, which outlive netd and go when they are removed", async () => {
    const name = "web";
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", name);
    const first = await lab.sandbox(1, "s1", name);
    await lab.sandbox(1, "s2", name);
    expect(await lab.pings(1, "s2", first)).toBe(true);
    await lab.killNetd(1);
    await expect(lab.netctl(1, "cluster", "host", "ls")).rejects.toThrow(
      /engine, which is netd's.*start netd/,
    );
    lab.startNetd(1);
    await lab.until("netd has its engine again", async () =>
      /^web /m.test(await lab.netctl(1, "cluster", "status").catch(() => "")),
    );
    await expect(lab.netctl(1, "network", "create", "-d", "overlay-vxlan", name)).rejects.toThrow("exists");
    await lab.sandbox(1, "s3", name);
    await lab.netctl(1, "sandbox", "rm", "s1", "s2", "s3");
    await lab.netctl(1, "network", "rm", name);
    await lab.netctl(1, "cluster", "leave");
    await lab.until("nothing is left", () => !lab.host(1).run("ip -o link").includes("nv"));
  });
});
