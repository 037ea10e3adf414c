import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { addressesOf, NamesRig, type RigContainer } from "#testing/names-rig.ts";
import { type BuiltService, buildService, readProcess } from "#testing/netd-lab.ts";

let service: BuiltService;
let rig: NamesRig;
let quiet: RigContainer;
let flooding: RigContainer;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  rig = new NamesRig(service);
  await rig.startServer("10.9.0.1", "one");
  await rig.startNetd();
  quiet = await rig.container("quiet", { names: ["quiet"] });
  flooding = await rig.container("flooding", { names: ["flooding"] });
});
afterEach(async () => {
  await rig.remove();
});

const residentMiB = async () =>
  Number(/VmRSS:\s+(\d+)/.exec(readProcess(String(await rig.servicePid()), "status"))?.[1]) / 1024;

/** What was not answered, and why. */
function failures(): readonly string[] {
  const words = [`--net=${rig.host.path}`, join(service.bin, "netctl"), "dns", "log"];
  return execFileSync("nsenter", words, { encoding: "utf8", env: rig.environment }).split("\n");
}

/**
 * Datagrams of all kinds without waiting for answers: names that nobody has asked for, noise, loops, answers. Until
 * there is the file that it is given.
 */
const flood = `
  const { existsSync } = require("node:fs");
  const { createSocket } = require("node:dgram");
  const { randomBytes } = require("node:crypto");
  const socket = createSocket("udp4");
  socket.on("message", () => {});
  let count = 0;
  const query = (index, of) => {
    const label = of.startsWith(".") ? "n" + index + of : of;
    const name = Buffer.concat([...label.split(".").map((each) => Buffer.from([each.length, ...Buffer.from(each)])), Buffer.of(0)]);
    return Buffer.concat([Buffer.from([index >> 8 & 255, index & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), name, Buffer.of(0, 1, 0, 1)]);
  };
  const kinds = [
    (index) => query(index, ".drop.test"),
    (index) => query(index, ".drop.test"),
    // The same bytes each time, but for the id: the answer is given where they are read.
    (index) => query(index, "quiet"),
    () => randomBytes(60),
    () => Buffer.concat([Buffer.from("000101000001000000000000c00c00010001", "hex")]),
    () => Buffer.concat([Buffer.from("00018180000100000000000000", "hex"), Buffer.of(0, 1, 0, 1)]),
    () => Buffer.alloc(20000, 1),
  ];
  socket.connect(53, "127.0.0.11", () => {
    const step = () => {
      for (const end = count + 500; count < end; count++) socket.send(kinds[count % kinds.length](count));
      if (existsSync(process.argv[2])) process.exit();
      setImmediate(step);
    };
    step();
  });
`;

/** Connections that say nothing, half a length, half a query, or the length of what never comes. */
const halfOpen = `
  const { connect } = require("node:net");
  const beginnings = [[], [0], [0, 40, 1, 2, 3], [255, 255], [0, 0, 0, 0]];
  for (let index = 0; index < 300; index++) {
    connect(53, "127.0.0.11", function () { this.write(Buffer.from(beginnings[index % 5])); }).on("error", () => {});
  }
  setInterval(() => { if (require("node:fs").existsSync(process.argv[2])) process.exit(); }, 50);
`;

test("a container that floods the resolver starves no other, and memory is bounded", async () => {
  const before = await residentMiB();
  writeFileSync(rig.path("flood.js"), flood);
  writeFileSync(rig.path("half-open.js"), halfOpen);
  const enough = rig.path("enough");
  const floods = Promise.all([
    flooding.namespace.runAsync(`${process.execPath} ${rig.path("flood.js")} ${enough}`),
    flooding.namespace.runAsync(`${process.execPath} ${rig.path("half-open.js")} ${enough}`),
  ]);
  for (let asked = 0; asked < 25; asked++) {
    // One try each: none of them may be lost.
    const found = await quiet.namespace.runAsync("dig +short +tries=1 +time=20 @127.0.0.11 quiet");
    expect(found.trim()).toBe(addressesOf(quiet)[0]);
    expect(rig.dig(quiet, "+tcp quiet")).toEqual([addressesOf(quiet)[0]]);
    // The server outside is flooded as well; one that is starved of the processor may be too late.
    while (!/192\.0\.2\.1$/m.test(rig.digWhole(quiet, `q${asked}.test`)));
  }
  // Half-open connections make room for one that asks.
  expect(rig.dig(flooding, "+tcp quiet")).toEqual([addressesOf(quiet)[0]]);
  const tooMany = (container: string) =>
    failures().filter((each) => each.includes(` ${container} `) && each.includes("256 questions of this"));
  while (tooMany("flooding").length === 0) await sleep(50);
  expect(tooMany("quiet")).toEqual([]);
  writeFileSync(enough, "");
  await floods;
  expect(rig.dig(flooding, "quiet")).toEqual([addressesOf(quiet)[0]]);
  expect((await residentMiB()) - before).toBeLessThan(200);
  expect(rig.log()).not.toContain("a handler failed");
});
