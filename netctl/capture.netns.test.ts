import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

describe("netctl capture and top", () => {
  let suite: BuiltSuite;
  let lab: SuiteLab;
  let directory: string;
  beforeAll(async () => {
    suite = await buildSuite();
    lab = new SuiteLab(suite, "capture");
    directory = mkdtempSync(join(tmpdir(), "netctl-capture-"));
    await lab.ok("network", "create", "web", "--subnet", "10.55.0.0/24");
    await lab.ok("sandbox", "create", "alice", "--network", "web");
    await lab.ok("sandbox", "create", "bob", "--network", "web");
  });
  afterAll(() => {
    lab.remove();
    suite.remove();
    rmSync(directory, { recursive: true });
  });

  const pingBob = (count: number) =>
    lab.namespace(lab.path("run/netns/alice")).run(`ping -c ${count} -i 0.2 10.55.0.3 >/dev/null`);

  /** netctl, once it has said that it captures. */
  async function capturing(...words: readonly string[]) {
    const child = lab.start("capture", ...words);
    let [stdout, stderr] = ["", ""];
    child.stdout?.on("data", (piece: Buffer) => (stdout += piece.toString("latin1")));
    const ready = new Promise<void>((resolve, reject) => {
      child.stderr?.on("data", (piece: Buffer) => {
        stderr += piece.toString();
        if (stderr.includes("capturing at ")) resolve();
      });
      child.on("exit", () => reject(new Error(stderr)));
    });
    const ended = once(child, "close");
    await ready;
    return {
      child,
      said: () => stderr,
      end: async () => {
        const [code] = (await ended) as [number];
        return { code, stdout, stderr };
      },
    };
  }

  test("prints packets of several points, each with its point, until it has enough", async () => {
    const run = await capturing("alice,bob", "-c", "8", "icmp", "and", "host", "10.55.0.2");
    pingBob(4);
    const { code, stdout, stderr } = await run.end();
    expect(stdout.match(/^alice eth0 {2}.*echo request/gm)?.length).toBeGreaterThan(0);
    expect(stdout.match(/^bob eth0 {4}.*echo request/gm)?.length).toBeGreaterThan(0);
    expect(stdout.trim().split("\n")).toHaveLength(8);
    expect(stderr).toContain("8 packets");
    expect(code).toBe(0);
  });

  test("writes one pcapng with a named interface for each point", async () => {
    const file = join(directory, "both.pcapng");
    const run = await capturing("alice", "--both-ends", "-w", file, "-c", "12", "icmp");
    pingBob(3);
    const { code, stderr } = await run.end();
    expect(code).toBe(0);
    expect(stderr).toMatch(/^12 packets/m);
    const bytes = readFileSync(file);
    expect(bytes.includes(Buffer.from("alice eth0"))).toBe(true);
    expect(bytes.toString("latin1")).toMatch(/host veth/);
    const printed = execFileSync("tcpdump", ["-n", "-r", file], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    expect(printed.match(/echo request/g)).toHaveLength(6);
    expect(printed.match(/echo reply/g)).toHaveLength(6);
  });

  test("ends with Ctrl-C, and after its time", async () => {
    const file = join(directory, "none.pcapng");
    const run = await capturing("bob", "-w", file, "icmp");
    run.child.kill("SIGINT");
    expect((await run.end()).code).toBe(0);
    await lab.ok("capture", "bob", "-d", "100ms");
    const printed = execFileSync("tcpdump", ["-n", "-r", file], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    expect(printed).toBe("");
  });

  test("captures at a network's bridge what passes between its containers, to stdout", async () => {
    const run = await capturing("web", "-w", "-", "-c", "4", "icmp");
    pingBob(2);
    const { stdout } = await run.end();
    const input = Buffer.from(stdout, "latin1");
    const printed = execFileSync("tcpdump", ["-n", "-r", "-"], {
      input,
      encoding: "utf8",
      stdio: ["pipe", "pipe", "ignore"],
    });
    expect(printed.match(/10\.55\.0\.2 > 10\.55\.0\.3: ICMP echo request/g)).toHaveLength(2);
  });

  test.each([
    [["nobody"], 1, "Cannot capture at nobody: no container, network, namespace or link with an interface"],
    [["alice", "tcp", "prot", "80"], 1, "Cannot capture at alice eth0: "],
    [["alice", "-w", "/nonexistent/x"], 1, "Cannot write /nonexistent/x"],
    [["alice", "-c", "none"], 2, "Cannot use --count none"],
  ])("refuses %j", async (words, code, message) => {
    const { exitCode, stderr } = await lab.netctl("capture", ...words);
    expect(stderr).toContain(message);
    expect(exitCode).toBe(code);
  });

  test("top shows what goes through each container", async () => {
    const alice = `--net=${lab.path("run/netns/alice")}`;
    const pings = spawn("nsenter", [alice, "ping", "-i", "0.2", "-s", "1000", "10.55.0.3"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    let stdout: string;
    try {
      // The second line is the first answer's.
      for (let lines = 0; lines < 2; lines++) await once(pings.stdout, "data");
      stdout = await lab.ok("top", "--json", "--interval", "2s", "-n", "1", "alice");
    } finally {
      pings.kill();
    }
    const { rates } = JSON.parse(stdout) as {
      rates: { name: string; txBytes: number; rxPackets: number; connections: number }[];
    };
    expect(rates).toMatchObject([{ name: "alice", link: "eth0", network: "web", dropped: 0 }]);
    expect(rates[0]?.txBytes).toBeGreaterThan(1000);
    expect(rates[0]?.rxPackets).toBeGreaterThan(0);
    expect(await lab.ok("top", "-n", "1", "--interval", "100ms")).toMatch(
      /CONTAINER +LINK +NETWORK +RECEIVED[^]*alice +eth0 +web/,
    );
  });
});
