import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { NamesRig, type RigContainer } from "#testing/names-rig.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";

let service: BuiltService;
let rig: NamesRig;
let web: RigContainer;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  rig = new NamesRig(service);
  await rig.startServer("10.9.0.1", "one");
  await rig.startNetd();
  web = await rig.container("web", { names: ["web"] });
});
afterEach(async () => {
  await rig.remove();
});

/**
 * How often the server has been asked for a name: over UDP, over TCP. Once, where the machine is not so busy that the
 * answer takes longer than a client waits that asks again.
 */
function countOf(name: string, server = "10.9.0.1") {
  const text = rig.host.run(`dig +short +time=20 @${server} count.${name} TXT`).trim().replaceAll('"', "");
  const [udp, tcp] = text.split(" ").map(Number);
  return { udp, tcp };
}

test("names that are nobody's here are the host's servers' to answer, once while they hold", () => {
  expect(rig.dig(web, "example.test")).toEqual(["192.0.2.1"]);
  const once = countOf("example.test");
  expect(rig.dig(web, "EXAMPLE.test +noedns")).toEqual(["192.0.2.1"]);
  expect(rig.dig(web, "example.test +tcp +bufsize=4096")).toEqual(["192.0.2.1"]);
  expect(countOf("example.test")).toEqual(once);
  expect(rig.digWhole(web, "Example.TEST")).toMatch(/^Example\.TEST\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$/m);
  expect(rig.dig(web, "-x 192.0.2.55")).toEqual(["outside.test."]);
  // Containers that have the same servers share what is known.
  expect(rig.digWhole(web, "nx.test")).toMatch(/status: NXDOMAIN/);
  expect(rig.digWhole(web, "nx.test AAAA")).toMatch(/status: NXDOMAIN/);
  expect(rig.digWhole(web, "none.test")).toMatch(/status: NOERROR.*\n.*ANSWER: 0, AUTHORITY: 1/);
  const denied = [countOf("nx.test"), countOf("none.test")];
  expect(rig.digWhole(web, "nx.test")).toMatch(/AUTHORITY: 1/);
  expect(rig.digWhole(web, "none.test")).toMatch(/status: NOERROR/);
  expect([countOf("nx.test"), countOf("none.test")]).toEqual(denied);
});

test("what has expired is asked for again", async () => {
  expect(rig.dig(web, "short.test")).toEqual(["192.0.2.1"]);
  const { udp } = countOf("short.test");
  while (countOf("short.test").udp === udp) rig.dig(web, "short.test");
  const ttl = () => Number(/\s(\d+)\s+IN\s+A/.exec(rig.digWhole(web, "example.test +noedns"))?.[1]);
  const first = ttl();
  expect(first).toBeLessThanOrEqual(60);
  while (ttl() === first);
  expect(ttl()).toBeLessThan(first);
});

test("equal questions at the same time are one, and every one of them is answered", async () => {
  const asked = await Promise.all(
    Array.from({ length: 20 }, () => web.namespace.runAsync("dig +short @127.0.0.11 late.test")),
  );
  expect(new Set(asked)).toEqual(new Set(["192.0.2.1\n"]));
  // Not twenty; a few, where the answer takes so long that it is asked again.
  expect(countOf("late.test").udp).toBeLessThan(10);
});

test("answers that are cut are fetched over TCP, and those that are not ours are passed over", () => {
  expect(rig.dig(web, "big.test +bufsize=4096")).toHaveLength(200);
  expect(countOf("big.test").tcp).toBeGreaterThan(0);
  expect(rig.digWhole(web, "big.test +ignore +noedns")).toMatch(/flags: qr tc rd ra;.* ANSWER: 0/);
  expect(rig.dig(web, "forged.test")).toEqual(["192.0.2.1"]);
  // Asked in random case: one that answers in another is asked again over TCP.
  expect(rig.dig(web, "lower.case.and.some.letters.test")).toEqual(["192.0.2.1"]);
  expect(countOf("lower.case.and.some.letters.test").tcp).toBeGreaterThan(0);
});

test("a server that does not know EDNS is asked without", () => {
  expect(rig.dig(web, "plain.test")).toEqual(["192.0.2.1"]);
  expect(countOf("plain.test").udp).toBeGreaterThan(1);
});

test("the next server is asked when one fails, is slow, or is not there", async () => {
  await rig.startServer("10.9.0.2", "two");
  expect(rig.dig(web, "firstfails.test")).toEqual(["192.0.2.2"]);
  expect(rig.dig(web, "firstrefuses.test")).toEqual(["192.0.2.2"]);
  expect(rig.dig(web, "firstdrops.test")).toEqual(["192.0.2.2"]);
  expect(rig.dig(web, "slow.test")).toEqual(["192.0.2.2"]);
  rig.setServers("10.9.0.3", "10.9.0.2");
  while (rig.dig(web, "whoami.test TXT")[0] !== '"two"') rig.dig(web, `x${Math.random()}.test`);
  expect(rig.digWhole(web, "servfail.test")).toMatch(/status: SERVFAIL/);
  expect(rig.digWhole(web, "refused.test")).toMatch(/status: SERVFAIL/);
});

test("there is always an answer: SERVFAIL before anybody gives up, at once where nobody listens", () => {
  // A busy machine may be late with one answer, but not with all of them.
  const failsWithin = (name: string, ms: number) => {
    const answer = rig.digWhole(web, `${name}${Math.random()}.test`);
    return answer.includes("SERVFAIL") && Number(/Query time: (\d+)/.exec(answer)?.[1]) < ms;
  };
  while (!failsWithin("drop.", 5000));
  rig.setServers("10.9.0.2");
  while (!failsWithin("gone", 1000));
  // Whoever operates it hears what became of each server.
  const why = () => {
    const words = [join(service.bin, "netctl"), "dns", "query", "--from", "web", `why${Math.random()}.test`];
    const options = { encoding: "utf8", env: rig.environment } as const;
    return spawnSync("nsenter", [`--net=${rig.host.path}`, ...words], options).stdout;
  };
  expect(why()).toBe("SERVFAIL: no answer: 10.9.0.2: nobody listens there\n");
});

test("questions to servers can't be guessed: port, id and letters are random, of a few sockets", () => {
  const seen = { port: new Set<string>(), id: new Set<string>(), letters: new Set<string>() };
  const asked = 60;
  for (let index = 0; index < asked; index++) {
    const [text = ""] = rig.dig(web, `whence.some.letters.to.choose.n${index}.test TXT`);
    const [port = "", id = "", name = ""] = text.replaceAll('"', "").split(" ");
    seen.port.add(port);
    seen.id.add(id);
    seen.letters.add(name.slice(0, 28));
  }
  // Eight shared ones for a server at a time; each is replaced by and by.
  expect(seen.port.size).toBeGreaterThan(3);
  expect(seen.id.size).toBeGreaterThan(asked / 2);
  expect(seen.letters.size).toBeGreaterThan(asked / 2);
});

test("a container with internal networks only learns nothing from outside, at once", async () => {
  const inner = await rig.container("inner", {
    names: ["inner"],
    networks: ["net7"],
    dns: { internal: true },
  });
  for (const words of [
    "secret.example.test",
    "single",
    "example.test +tcp",
    "-x 192.0.2.55",
    "example.test TXT",
  ]) {
    expect(rig.digWhole(inner, words), words).toMatch(/status: NXDOMAIN/);
  }
  expect(rig.dig(inner, "inner")).toHaveLength(1);
  const never = { udp: 0, tcp: 0 };
  expect([countOf("secret.example.test"), countOf("example.test")]).toEqual([never, never]);
  // In one network that is not, it may.
  const options = { networks: ["net7", "net1"], dns: { internal: true } };
  const both = rig.namespace("names-both");
  await rig.attach({ id: "both", namespace: both, network: "net7", index: 0, options });
  await rig.attach({
    id: "both",
    namespace: both,
    network: "net1",
    index: 1,
    options: { ...options, dns: {} },
  });
  expect(rig.dig({ namespace: both }, "example.test")).toEqual(["192.0.2.1"]);
});

test("servers of a container's own are asked from where it is, and by it alone", async () => {
  const server = await rig.container("server", { names: ["server"] });
  await rig.startServer("127.0.0.1", "two", server.namespace);
  const own = await rig.container("own", { asked: { servers: ["127.0.0.1"] } });
  await rig.startServer("127.0.0.1", "own", own.namespace);
  expect(rig.dig(own, "whoami.test TXT")).toEqual(['"own"']);
  expect(rig.dig(web, "whoami.test TXT")).toEqual(['"one"']);
  const result = await rig.container("searching", {
    asked: { servers: ["10.9.0.1"], searches: ["lab.test"], options: ["ndots:2"] },
  });
  expect(result.results["net1"]?.dns).toEqual({
    nameservers: ["127.0.0.11"],
    search: ["lab.test"],
    options: ["ndots:2"],
  });
});

test("what is asked of a container's own servers ends with the container, and opens nothing more there", async () => {
  // Nobody listens at the first, and nobody has the second.
  const options = { asked: { servers: ["127.0.0.1", "10.1.1.250"] } };
  const leaving = await rig.container("leaving", options);
  const ask = (letter: string) => {
    const query = String.raw`\0\1\1\0\0\1\0\0\0\0\0\0\1${letter}\4test\0\0\1\0\1`;
    leaving.namespace.run(`bash -c "printf '${query}' > /dev/udp/127.0.0.11/53"`);
  };
  const sockets = () => leaving.namespace.run("ss -Huna dport = 53");
  ask("q");
  while (!sockets().includes("10.1.1.250")) await sleep(50);
  // One of which the first, which comes last now, has not heard yet.
  ask("r");
  await rig.detach(leaving);
  expect(sockets()).toBe("");
});

test("a server that asks us back for what we ask of it makes no loop", async () => {
  const looping = await rig.container("looping", { asked: { servers: ["127.0.0.11", "127.0.0.1"] } });
  // dnsmasq would do; a relay of ten lines does as well.
  looping.namespace.run(`${process.execPath} -e '
    const { createSocket } = require("node:dgram");
    const relay = createSocket("udp4");
    relay.on("message", (bytes, peer) => {
      const up = createSocket("udp4");
      up.on("message", (answer) => { relay.send(answer, peer.port, peer.address); up.close(); });
      up.send(bytes, 53, "127.0.0.11");
    });
    relay.bind(53, "127.0.0.1", () => require("node:fs").writeFileSync("${rig.path("relay")}", ""));
    setTimeout(() => process.exit(), 60000).unref();
  ' > /dev/null 2>&1 &`);
  await rig.file("relay");
  const answer = rig.digWhole(looping, "round.and.round.test");
  expect(answer).toMatch(/status: SERVFAIL/);
  expect(rig.dig(looping, "web")).toHaveLength(1);
});
