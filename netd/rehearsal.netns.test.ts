import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type BuiltService, buildService, NetdLab } from "#testing/netd-lab.ts";

let service: BuiltService;
let lab: NetdLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(() => {
  lab = new NetdLab(service);
});
afterEach(async () => await lab.remove());

const environment = { NETCTL_REHEARSAL_MS: "200", NETCTL_LOG_LEVEL: "debug" };

test("netd rehearses ADD and DEL without a trace on the host, and serves then", async () => {
  await lab.startNetd({ environment });
  expect(lab.log()).toMatch(/"pairs":[1-9].*"msg":"rehearsed"/);
  expect(lab.log()).not.toContain("cannot rehearse");
  expect(lab.links(lab.host)).toEqual(["lo"]);
  expect(lab.host.run("nft list ruleset; ip -o address show dev lo | grep 192.0.2 || true")).toBe("");
  expect(readdirSync(lab.path("run")).filter((name) => name.includes("rehearsal"))).toEqual([]);

  const netns = lab.namespace().path;
  expect(await lab.call("ADD", { netns })).toMatchObject({ exitCode: 0, by: ["netd"] });
  expect(lab.links(lab.host)).toContain("br1");
  expect(await lab.call("DEL", { netns })).toMatchObject({ exitCode: 0, by: ["netd"] });
  expect(lab.remains()).toEqual([]);
});

test("what a rehearsal has left that was killed goes away with the next", async () => {
  const { host } = lab;
  const [inode] = /\d+/.exec(host.run("readlink /proc/self/ns/net")) ?? [];
  const stage = lab.path("run", `rehearsal-${inode}`);
  mkdirSync(stage, { recursive: true });
  writeFileSync(`${stage}/left`, "");
  await lab.startNetd({ environment });
  expect(readdirSync(lab.path("run")).filter((name) => name.includes("rehearsal"))).toEqual([]);
});
