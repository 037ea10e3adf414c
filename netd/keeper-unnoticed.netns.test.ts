import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Nftables } from "#nftables/nftables.ts";
import type { Repair } from "#suite/repair.ts";
import { PortRig } from "#testing/port-rig.ts";
import { ask } from "#testing/traffic.ts";
import { Keeper } from "./keeper.ts";

let rig: PortRig;
let stranger: Nftables;
let keeper: Keeper;
let looks: Repair[];

beforeEach(async () => {
  rig = new PortRig();
  stranger = new Nftables({ namespacePath: rig.namespace.path });
  const target = await rig.attach({
    containerId: "target",
    mappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }],
  });
  await rig.serve(target.container, "target", [80]);
  // The stranger's commits are taken for the host's own: no notification says that they are not.
  const nftables = new Proxy(rig.host.nftables, {
    get(own, name) {
      if (name === "port") return () => stranger.port();
      const member: unknown = Reflect.get(own, name, own);
      return typeof member === "function" ? (member.bind(own) as unknown) : member;
    },
  });
  looks = [];
  keeper = new Keeper({ host: { ...rig.host, nftables }, onRepair: (found) => looks.push(found) });
  keeper.start();
  while (looks.length === 0) await sleep(5);
});
afterEach(async () => {
  await keeper.close();
  stranger.close();
  await rig.close();
});

const answer = async () => {
  const [first] = await ask(rig.lan, [{ protocol: "tcp", to: "192.0.2.1", port: 8080 }]);
  return first ?? "";
};

test("what the kernel told to nobody is found by the ruleset's number, and is back", async () => {
  const before = await answer();
  expect(before).toMatch(/^target sees/);
  await stranger.change((view) => ({
    remove: view.list("ports4").map(({ key }) => ({ set: "ports4", key })),
    add: [],
  }));
  expect(await answer()).not.toBe(before);
  while ((await answer()) !== before) {
    keeper.tick();
    await sleep(20);
  }
  expect(looks).toHaveLength(2);
  // What is told, and takes nothing away, is no reason to look.
  rig.namespace.run("nft 'add table inet mine; delete table inet mine'");
  for (let tick = 0; tick < 20; tick++) {
    keeper.tick();
    await sleep(20);
  }
  expect(looks).toHaveLength(2);
});
