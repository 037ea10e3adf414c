import { execFileSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { XMLValidator } from "fast-xml-parser";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import type { NamespaceView } from "./topology/model.ts";

/** Namespaces that somebody else has made, beside those of sandboxes. */
describe("netctl inspect", () => {
  let suite: BuiltSuite;
  let lab: SuiteLab;
  let lan: TestNamespace;
  let foreign: TestNamespace;
  let unrelated: TestNamespace;
  beforeAll(async () => {
    suite = await buildSuite();
    lab = new SuiteLab(suite, "topology");
    lan = TestNamespace.create("topology-lan");
    foreign = TestNamespace.create("topology-foreign");
    unrelated = TestNamespace.create("topology-unrelated");
    lab.host.run(`ip link add up0 type veth peer name eth0 netns ${lan.name}; ip link set up0 up
      ip addr add 203.0.113.1/24 dev up0; ip route add default via 203.0.113.2
      ip link add br9 type bridge; ip link set br9 up; ip addr add 10.99.0.1/24 dev br9
      ip link add v0 type veth peer name eth0 netns ${foreign.name}; ip link set v0 up; ip link set v0 master br9
      ip link add mac0 link up0 netns ${foreign.name} type macvlan mode bridge`);
    lan.run("ip link set eth0 up; ip addr add 203.0.113.2/24 dev eth0");
    foreign.run("ip link set eth0 up; ip addr add 10.99.0.2/24 dev eth0; ip link set mac0 up");
    await lab.ok("network", "create", "web");
    await lab.ok("network", "create", "db", "--internal");
    await lab.ok("sandbox", "create", "alice", "--network", "web", "-p", "8080:80");
    await lab.ok("sandbox", "create", "bob", "--network", "web", "--network", "db");
  });
  afterAll(() => {
    lab.remove();
    for (const each of [lan, foreign, unrelated]) each.remove();
    suite.remove();
  });

  const namespaces = async (...words: readonly string[]) => {
    const printed = await lab.ok("inspect", ...words, "--json");
    return (JSON.parse(printed) as { readonly namespaces: readonly NamespaceView[] }).namespaces;
  };

  test("takes no namespace for this host's whose link has the numbers of one that is", async () => {
    const [far, guest, own] = ["far", "guest", "own"].map((hint) => TestNamespace.create(`topology-${hint}`));
    if (far === undefined || guest === undefined || own === undefined) return;
    const pairWith = (other: TestNamespace) =>
      `ip link add v40 index 40077 type veth peer name eth0 index 40078 netns ${other.name}`;
    lab.host.run(pairWith(own));
    far.run(pairWith(guest));
    // Another host, which nobody sees: an open file keeps it.
    const held = openSync(far.path, "r");
    far.remove();
    try {
      const names = (await namespaces()).map(({ name }) => name);
      expect(names).toContain(own.name);
      expect(names).not.toContain(guest.name);
    } finally {
      closeSync(held);
      for (const each of [guest, own]) each.remove();
    }
  });

  test("shows a namespace of nobody's, and what its links lead to", async () => {
    const [found] = await namespaces(foreign.path);
    expect(found).toMatchObject({ kind: "namespace", name: foreign.name, paths: [foreign.path] });
    const links = found?.links.filter(({ isLoopback }) => !isLoopback);
    expect(links).toMatchObject([
      {
        name: "eth0",
        addresses: expect.arrayContaining(["10.99.0.2/24"]),
        below: { relation: "peer", namespace: "host", link: "v0" },
      },
      { name: "mac0", kind: "macvlan", below: { relation: "parent", namespace: "host", link: "up0" } },
    ]);
  });

  test("finds it by a process in it, by the name of its file, and by the host's link that leads there", async () => {
    const [byPath] = await namespaces(foreign.path);
    const sleeper = execFileSync("nsenter", [
      `--net=${foreign.path}`,
      "sh",
      "-c",
      "sleep 60 >/dev/null 2>&1 & echo $!",
    ]);
    const pid = Number(sleeper.toString());
    try {
      const [byPid] = await namespaces(String(pid));
      expect(byPid?.id).toBe(byPath?.id);
      expect(byPid?.processes).toEqual([{ pid, command: "sleep" }]);
    } finally {
      process.kill(pid);
    }
    expect((await namespaces(foreign.name))[0]?.id).toBe(byPath?.id);
    const byLink = await namespaces("v0");
    expect(byLink.map(({ id }) => id)).toEqual(["host", byPath?.id]);
    expect(byLink[0]?.links.map(({ name }) => name).sort()).toEqual(["br9", "v0"]);
  });

  test("leaves out what neither hangs together with this host nor is asked for", async () => {
    expect((await namespaces()).map(({ name }) => name).sort()).toEqual([foreign.name, lan.name]);
    const { exitCode, stderr } = await lab.netctl("inspect", unrelated.path);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`Cannot inspect ${unrelated.path}: no such network, sandbox, container`);
    expect(stderr).toContain("alice");
  });

  test("shows the host's links with the other ends of the containers' ones", async () => {
    const [host] = await namespaces("host");
    const bridges = host?.links.filter(({ kind, network }) => kind === "bridge" && network !== null);
    expect(bridges?.map(({ network, isInternal }) => [network, isInternal]).sort()).toEqual([
      ["db", true],
      ["web", false],
    ]);
    const printed = await lab.ok("inspect", "host");
    expect(printed).toMatch(/link {2}veth\w+ .* port of \S+ {2}to alice eth0/);
    expect(printed).toContain("to bob eth1");
  });

  test("counts packets", async () => {
    const before = (await namespaces(foreign.path))[0]?.links.find(({ name }) => name === "eth0")?.counters;
    foreign.run("ping -c 3 -i 0.2 10.99.0.1 >/dev/null");
    const after = (await namespaces(foreign.path))[0]?.links.find(({ name }) => name === "eth0")?.counters;
    expect((after?.rxPackets ?? 0) - (before?.rxPackets ?? 0)).toBeGreaterThanOrEqual(3);
  });

  test("draws an SVG that stands on its own, and says what is broken in it", async () => {
    const whole = await lab.ok("inspect", "--graph");
    for (const title of ["alice", "bob", "web", "db", "up0", foreign.name, lan.name])
      expect(whole).toContain(`>${title}<`);
    expect(whole).toContain("published 0.0.0.0:8080-&#62;80/tcp");
    expect(whole).not.toMatch(/href|<script|url\(/);
    expect(whole).not.toContain("is down");
    // Well-formed for a reader that is not ours.
    expect(XMLValidator.validate(whole)).toBe(true);
    foreign.run("ip link set eth0 down");
    try {
      expect(await lab.ok("inspect", "--graph")).toContain("! eth0 is down");
    } finally {
      foreign.run("ip link set eth0 up");
    }
  });

  test("draws a part, in Mermaid's language too", async () => {
    const printed = await lab.ok("inspect", "db", "--graph", "mermaid");
    expect(printed).toMatch(/^flowchart LR\n/);
    expect(printed).toContain("<b>bob</b>");
    expect(printed).toContain("<b>db</b>");
    expect(printed).not.toContain("<b>alice</b>");
    expect(printed).not.toContain(foreign.name);
    const drawn = await lab.ok("inspect", "--graph", "db");
    expect(drawn).toContain(">bob<");
    expect(drawn).not.toContain(">alice<");
    expect(drawn).toContain("around db");
  });

  test.each([
    [["--graph", "png"], 'Cannot draw "png": --graph knows svg and mermaid'],
    [["--graph", "dbb"], "; did you mean db?"],
    [["--graph", "db", "web"], 'Cannot draw "db": --graph knows svg and mermaid'],
    [["--graph", "--json"], "--json and --graph exclude each other"],
  ])("refuses %j", async (words, message) => {
    const { exitCode, stderr } = await lab.netctl("inspect", ...words);
    expect(stderr).toContain(message);
    expect(exitCode).toBe(2);
  });
});
