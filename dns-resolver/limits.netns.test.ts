import { execFile, execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { addressesOf, NamesRig, type RigContainer } from "#testing/names-rig.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { patience } from "#testing/patience.ts";

const run = promisify(execFile);

let service: BuiltService;
let rig: NamesRig;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(() => {
  rig = new NamesRig(service);
});
afterEach(async () => {
  await rig.remove();
});

/**
 * Connections of one container to its resolver. Of each line that it reads: `open N` opens so many, one after the other;
 * `ask INDEX NAME` sends a question on one of them. What it prints: `opened`, `INDEX answered`, `INDEX closed`.
 */
const clientScript = `
const { connect } = require("node:net");
const all = [];
const open = () => new Promise((resolve) => {
  const index = all.length;
  const socket = connect(53, "127.0.0.11", resolve);
  all.push(socket);
  socket.on("data", () => console.log(index + " answered"));
  socket.on("error", () => {});
  socket.on("close", () => { console.log(index + " closed"); resolve(); });
});
require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const [word, first, name = ""] = line.split(" ");
  if (word === "open") {
    for (let count = 0; count < Number(first); count++) await open();
    console.log("opened");
  } else {
    const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
    const query = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1];
    all[Number(first)].write(Buffer.from([0, query.length, ...query]));
  }
});
`;

class Client {
  readonly #child;
  readonly #lines: string[] = [];

  constructor({ namespace }: RigContainer) {
    const args = [`--net=${namespace.path}`, process.execPath, "-e", clientScript];
    this.#child = spawn("nsenter", args, { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#lines.push(line));
  }

  count(line: string | RegExp): number {
    return this.#lines.filter((each) => (typeof line === "string" ? each === line : line.test(each))).length;
  }

  async open(count: number): Promise<void> {
    const before = this.count("opened");
    this.#child.stdin.write(`open ${count}\n`);
    await this.#until(() => this.count("opened") > before);
  }

  /** @returns false where the connection is closed instead */
  async ask(index: number, name: string): Promise<boolean> {
    const before = this.count(`${index} answered`);
    this.#child.stdin.write(`ask ${index} ${name}\n`);
    await this.#until(() => this.count(`${index} answered`) > before || this.count(`${index} closed`) > 0);
    return this.count(`${index} answered`) > before;
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await sleep(5);
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

test("of 64 connections the one that has been quiet for longest makes room, in its own container alone", async () => {
  await rig.startNetd();
  const web = await rig.container("web", { names: ["web"] });
  const db = await rig.container("db", { names: ["db"] });
  const [many, other] = [new Client(web), new Client(db)];
  try {
    await other.open(1);
    await many.open(64);
    expect(many.count(/closed/u)).toBe(0);
    // The oldest has something to ask, which the second has not.
    expect(await many.ask(0, "db")).toBe(true);
    await many.open(1);
    while (many.count(/closed/u) === 0) await sleep(5);
    expect(many.count("1 closed")).toBe(1);
    expect(await many.ask(0, "db")).toBe(true);
    expect(await many.ask(64, "db")).toBe(true);
    // However many come, who asks in between stays.
    for (let round = 0; round < 5; round++) {
      await many.open(32);
      expect(await many.ask(0, "db"), `round ${round}`).toBe(true);
    }
    const established = () =>
      web.namespace.run("ss -Htn state established src 127.0.0.11").trim().split("\n");
    while (established().length > 64) await sleep(20);
    expect(await other.ask(0, "web")).toBe(true);
    expect(rig.dig(web, "+tcp db")).toEqual([addressesOf(db)[0]]);
  } finally {
    many.end();
    other.end();
  }
});

test("other servers in the host's resolv.conf are asked from then on; what is under way is still answered", async () => {
  rig.setServers("10.9.0.1");
  await rig.startServer("10.9.0.1", "one");
  await rig.startServer("10.9.0.2", "two");
  await rig.startNetd();
  const web = await rig.container("web", { names: ["web"] });
  expect(rig.dig(web, "example.test")).toEqual(["192.0.2.1"]);
  const dig = ["dig", "+short", "+tries=1", "+time=30", "@127.0.0.11", "slow.test"];
  const slow = run("nsenter", [`--net=${web.namespace.path}`, ...dig]);
  const asked = () => rig.host.run("dig +short +time=20 @10.9.0.1 count.slow.test TXT").trim();
  while (asked() === '"0 0"') await sleep(20);
  rig.setServers("10.9.0.2");
  while (rig.dig(web, "whoami.test TXT").join() !== '"two"') await sleep(50);
  // Of what the first has said nothing is left, either.
  expect(rig.dig(web, "example.test")).toEqual(["192.0.2.2"]);
  expect((await slow).stdout.trim()).toBe("192.0.2.1");
  const towards = (server: string) => rig.host.run(`ss -Huna dst ${server}`).trim();
  while (towards("10.9.0.1") !== "") await sleep(20);
  expect(towards("10.9.0.2")).not.toBe("");
});

test.each([
  ["that has asked", "example.test"],
  ["whose question is under way", "drop.test"],
  ["whose question is under way over TCP", "big.test"],
])(
  "nothing keeps the namespace of a container with servers of its own %s and goes without a DEL",
  async (_, name) => {
    await rig.startNetd();
    const server = await rig.container("server", { names: ["server"] });
    const address = addressesOf(server)[0] ?? "";
    await rig.startServer(address, "two", server.namespace);
    if (name === "big.test") {
      server.namespace.run(
        "iptables -A INPUT -p tcp --dport 53 -m length --length 60: -m conntrack --ctstate ESTABLISHED -j DROP",
      );
    }
    const leaving = await rig.container("leaving", { names: ["leaving"], asked: { servers: [address] } });
    const veths = () => rig.links(rig.host).filter((each) => each.startsWith("veth")).length;
    expect(veths()).toBe(2);
    const sockets = () => leaving.namespace.run(`ss -Hna dst ${address} and dport = 53`).trim();
    const child = spawn("nsenter", [
      `--net=${leaving.namespace.path}`,
      "dig",
      "+tries=1",
      "+time=20",
      "+noedns",
      "@127.0.0.11",
      name,
    ]);
    if (name === "example.test") await new Promise((resolve) => child.once("exit", resolve));
    while (!(name === "big.test" ? /^tcp/mu : /./u).test(sockets())) await sleep(20);
    child.kill("SIGKILL");
    execFileSync("ip", ["netns", "delete", leaving.namespace.name]);
    // The other end of its veth goes with the namespace.
    while (veths() > 1) await sleep(20);
    expect(rig.dig(server, "leaving")).toEqual([]);
    execFileSync("ip", ["netns", "add", leaving.namespace.name]);
  },
  // A connection that its server no longer answers would stay for a hundred seconds.
  60_000 * patience,
);
