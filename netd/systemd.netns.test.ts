import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type BuiltService, buildService, exitCodeOf, NetdLab } from "#testing/netd-lab.ts";

let service: BuiltService;
let lab: NetdLab;
const activated: ChildProcess[] = [];
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(() => {
  lab = new NetdLab(service);
  mkdirSync(lab.path("run"), { mode: 0o700 });
});
afterEach(async () => {
  for (const each of activated.splice(0)) each.kill("SIGKILL");
  await lab.remove();
});

function testWithProgram(program: string, name: string, body: () => Promise<void> | void): void {
  const isThere = spawnSync("which", [program]).status === 0;
  test.skipIf(!isThere)(isThere ? name : `${name} [this machine lacks ${program}]`, body);
}

/** Opens sockets as systemd does, and starts netd with them when somebody connects. */
function activate(...options: readonly string[]): ChildProcess {
  const settings = Object.entries(lab.environment).map(([name, value]) => `--setenv=${name}=${value}`);
  const netd = [process.execPath, join(service.lib, "netd.cjs")];
  const args = [`--net=${lab.host.path}`, "systemd-socket-activate", ...settings, ...options, ...netd];
  const child = spawn("nsenter", args, { stdio: "ignore" });
  activated.push(child);
  return child;
}

describe("socket activation", () => {
  testWithProgram(
    "systemd-socket-activate",
    "a call starts netd, which serves on systemd's socket",
    async () => {
      const netd = activate(`--listen=${lab.socketPath()}`);
      await lab.untilServed();
      expect(lab.netds()).toEqual([netd.pid]);
      expect(readFileSync(`${lab.socketPath().slice(0, -5)}.lock`, "utf8")).toBe(`${netd.pid}\n`);
      netd.kill("SIGTERM");
      expect(await exitCodeOf(netd)).toBe(0);
      // It is systemd's.
      expect(execFileSync("stat", ["-c", "%F", lab.socketPath()], { encoding: "utf8" })).toBe("socket\n");
    },
  );

  testWithProgram("systemd-socket-activate", "of several sockets it takes its own, by name", async () => {
    // As the units do it: the socket has a name of its own, and the launchers' name for it is a link.
    symlinkSync("netd.sock", lab.socketPath());
    activate(
      `--listen=${lab.path("run/other.sock")}`,
      `--listen=${lab.path("run/netd.sock")}`,
      "--fdname=other:netd",
    );
    await lab.untilServed();
  });

  testWithProgram(
    "systemd-socket-activate",
    "it takes over from a netd that a launcher has started",
    async () => {
      const before = await lab.startNetd();
      rmSync(lab.socketPath());
      activate(`--listen=${lab.socketPath()}`);
      await lab.untilServed();
      expect(await exitCodeOf(before)).toBe(0);
      expect(lab.log()).toContain("the socket was taken away");
    },
  );
});

describe("the units", () => {
  const units = ["netctl-netd.service", "netctl-netd.socket"];
  const source = join(import.meta.dirname, "../deploy/systemd");

  /** What systemd-analyze has to say about them. */
  function verify(change: (text: string) => string = (text) => text): string {
    cpSync(source, lab.path("units"), { recursive: true });
    for (const unit of units) {
      const path = lab.path("units", unit);
      const text = readFileSync(path, "utf8").replace("/usr/bin/node", process.execPath);
      writeFileSync(path, change(text));
    }
    const paths = units.map((unit) => lab.path("units", unit));
    const { stdout, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", ...paths], {
      encoding: "utf8",
    });
    const ours = (line: string) => units.some((unit) => line.includes(basename(unit)));
    return `${stdout}${stderr}`.split("\n").filter(ours).join("\n");
  }

  testWithProgram("systemd-analyze", "are such as systemd understands", () => {
    expect(verify((text) => text.replace("Backlog=", "Backlogs="))).toContain("Backlogs");
    expect(verify()).toBe("");
  });

  test("the socket's unit links the name that launchers look for", () => {
    const text = readFileSync(join(source, "netctl-netd.socket"), "utf8");
    const command = (name: string) => {
      const line = new RegExp(`^${name}=/bin/sh -c '(.*)'$`, "m").exec(text)?.[1] ?? "";
      return line.replaceAll("%%", "%").replaceAll("/run/netctl", lab.path("run"));
    };
    lab.host.run(command("ExecStartPost"));
    expect(execFileSync("readlink", [lab.socketPath()], { encoding: "utf8" })).toBe("netd.sock\n");
    lab.host.run(command("ExecStopPost"));
    expect(() => execFileSync("readlink", [lab.socketPath()])).toThrow();
  });
});
