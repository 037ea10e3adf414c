import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { afterAll, beforeAll, expect } from "vitest";
import type { Finding } from "#netctl/doctor/finding.ts";
import { testWith } from "#testing/requires.ts";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { ask, startServer } from "#testing/traffic.ts";

/**
 * Debian's ufw beside ours, in a namespace of its own with files of its own: what it changes of /etc is in an overlay
 * that goes with it. `NETCTL_UFW_ROOT` is a folder that the package was unpacked into (dpkg -x), where it is not
 * installed.
 */
const unpacked = process.env["NETCTL_UFW_ROOT"] ?? "";

let suite: BuiltSuite;
let lab: SuiteLab;
let lan: TestNamespace;
let stopServer: (() => void) | undefined;

beforeAll(async () => {
  suite = await buildSuite();
  lab = new SuiteLab(suite, "ufw");
  lan = TestNamespace.create("ufw-lan");
  lab.host.run(`ip link add up0 type veth peer name eth0 netns ${lan.name}; ip link set up0 up
    ip addr add 203.0.113.1/24 dev up0`);
  lan.run("ip link set eth0 up; ip addr add 203.0.113.2/24 dev eth0");
});
afterAll(() => {
  stopServer?.();
  lab.remove();
  lan.remove();
  suite.remove();
});

/** Runs a command with ufw's files where it looks for them. */
function withUfw(command: string): string {
  const layer = (name: string) => {
    const [upper, work] = [lab.path(`${name}-upper`), lab.path(`${name}-work`)];
    for (const each of [upper, work]) mkdirSync(each, { recursive: true });
    const lower = existsSync(`${unpacked}/${name}`) && unpacked ? `${unpacked}/${name}:/${name}` : `/${name}`;
    return `mount -t overlay overlay -o lowerdir=${lower},upperdir=${upper},workdir=${work} /${name}`;
  };
  const script = `
    ${layer("etc")}; ${layer("usr")}
    [ -z '${unpacked}' ] || [ -e /usr/lib/ufw/ufw-init ] || cp -r ${unpacked}/lib/ufw /usr/lib/
    [ -e /etc/ufw/user.rules ] || cp /usr/share/ufw/ufw.conf /usr/share/ufw/iptables/*.rules /etc/ufw/
    ${command}`;
  const args = [`--net=${lab.host.path}`, "unshare", "-m", "sh", "-ec", script];
  return execFileSync("nsenter", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

const theirs = () => lab.host.run("iptables-save; ip6tables-save").replace(/^#.*$|\[\d+:\d+\]/gmu, "");
const ours = () => lab.host.run("nft list table inet netctl");
const published = async () => (await ask(lan, [{ protocol: "tcp", to: "203.0.113.1", port: 8080 }]))[0] ?? "";

testWith(
  ["ufw"],
  "ufw's policy is named with what helps, and neither touches the other's rules",
  async () => {
    const network = ["--disable-dns", "-o", "com.docker.network.bridge.name=br1"];
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", ...network);
    await lab.ok("sandbox", "create", "a", "--network", "web", "-p", "8080:80");
    stopServer = await startServer(lab.namespace(lab.path("run/netns/a")), "a", [80]);
    expect(await published()).toBe("a sees 203.0.113.2");

    withUfw("ufw --force enable");
    expect(await published()).not.toContain("a sees");
    const { stdout } = await lab.netctl("doctor", "--json", "foreign-firewall");
    const { findings } = JSON.parse(stdout) as { findings: readonly Finding[] };
    const found = findings.find(({ severity }) => severity === "error");
    expect(found, stdout).toMatchObject({ id: "foreign-firewall", subject: "web" });
    expect(found?.evidence).toMatch(/chain FORWARD .* of ufw drops packets/u);
    expect(await lab.ok("inspect", "web")).toContain(found?.evidence);

    // What it says helps.
    withUfw(found?.remedy ?? "");
    expect(await published()).toBe("a sees 203.0.113.2");
    expect((await lab.netctl("doctor", "--json", "foreign-firewall")).exitCode).toBe(0);

    const rules = ours();
    withUfw("ufw reload");
    expect(ours()).toBe(rules);
    expect(await published()).toBe("a sees 203.0.113.2");
    const before = theirs();
    await lab.ok("sandbox", "create", "b", "--network", "web", "-p", "8081:80");
    await lab.ok("sandbox", "rm", "b");
    expect(theirs()).toBe(before);

    withUfw("ufw disable");
    expect(await published()).toBe("a sees 203.0.113.2");
  },
);
