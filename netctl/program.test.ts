import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { chooseColors } from "./io.ts";
import { runNetctl } from "./program.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "netctl-cli-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** A command line that touches no kernel, run without a process. */
async function netctl(...words: readonly string[]) {
  const ran: string[][] = [];
  let [stdout, stderr] = ["", ""];
  const environment = {
    NETCTL_CONF_DIR: join(directory, "conf"),
    NETCTL_BIN_DIR: join(directory, "bin"),
    NETCTL_STATE_DIR: join(directory, "state"),
    NETCTL_RUN_DIR: join(directory, "run"),
  };
  const exitCode = await runNetctl(words, environment, {
    stdout: (text) => (stdout += text),
    stderr: (text) => (stderr += text),
    stdoutBytes: () => undefined,
    redraw: (text) => (stdout += text),
    progress: () => undefined,
    ask: async () => "",
    colors: chooseColors({}, false),
    workingDirectory: directory,
    runAttached: async (file, args) => {
      ran.push([file, ...args]);
      return 42;
    },
  });
  return { exitCode, stdout, stderr, ran };
}

describe("netctl", () => {
  it.each([
    [["netwrk"], "netctl: unknown command 'netwrk'\n(Did you mean network?)\n"],
    [["network", "craete", "x"], "netctl: unknown command 'craete'\n(Did you mean create?)\n"],
    [["network", "ls", "--jsn"], "netctl: unknown option '--jsn'\n(Did you mean --json?)\n"],
    [["network", "create"], "netctl: missing required argument 'name'\n"],
    [
      ["network", "create", "x", "--driver", "brigde"],
      'netctl: Cannot use driver "brigde": expected one of bridge, macvlan, ipvlan, host, none, overlay-vxlan; did you mean bridge?\n',
    ],
    [["sandbox", "exec", "a", "--"], "netctl: Cannot run a command in sandbox a: none was given after --\n"],
  ])("exits with 2 for the wrong words %j, and says what is wrong", async (words, stderr) => {
    expect(await netctl(...words)).toEqual({ exitCode: 2, stdout: "", stderr, ran: [] });
  });

  it.each([
    [
      ["sandbox", "create", "a", "--ip", "10.1.0.2"],
      "netctl: Cannot use --ip with 0 networks; write --network NAME:ip=…,mac=…,alias=…\n",
    ],
    [
      ["sandbox", "create", "a", "--network", "x:ipp=1"],
      'netctl: Cannot use --network x:ipp=1: "ipp=1" is none of ip=, ip6=, mac=, alias=, interface_name= and gw-priority=\n',
    ],
    [["sandbox", "create"], "netctl: missing required argument 'name'\n"],
    [
      ["sandbox", "create", "a", "--netwrk", "x"],
      "netctl: unknown option '--netwrk'\n(Did you mean --network?)\n",
    ],
    [["sandbox", "create", "a/b"], /^netctl: .*a\/b/],
  ])("exits with 125 where nothing comes to run by %j, as docker run does", async (words, stderr) => {
    const ended = await netctl(...words);
    expect(ended).toMatchObject({ exitCode: 125, stdout: "" });
    if (typeof stderr === "string") expect(ended.stderr).toBe(stderr);
    else expect(ended.stderr).toMatch(stderr);
    expect((await netctl("sandbox", "create", "--help")).exitCode).toBe(0);
  });

  it.each([
    [["network", "create", "host"], "netctl: operation is not permitted on predefined host network\n"],
    [["network", "rm", "none"], "netctl: none is a pre-defined network and cannot be removed\n"],
    [["sandbox", "rm", "gone"], "netctl: sandbox gone not found\n"],
    [["sandbox", "exec", "gone", "--", "true"], "netctl: sandbox gone not found\n"],
  ])("exits with 1 where %j can't be done, in one line", async (words, stderr) => {
    expect(await netctl(...words)).toMatchObject({ exitCode: 1, stdout: "", stderr });
  });

  it("names a network that is not there, and where it looked", async () => {
    const { exitCode, stdout, stderr } = await netctl("network", "inspect", "absent");
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "[]\n" });
    expect(stderr).toBe(`netctl: network absent not found in ${directory}/conf\n`);
    await netctl("network", "create", "frontend", "--subnet", "10.1.0.0/24");
    expect((await netctl("network", "inspect", "fronted")).stderr).toBe(
      `netctl: network fronted not found in ${directory}/conf; did you mean frontend?\n`,
    );
    expect((await netctl("network", "rm", "absent")).exitCode).toBe(1);
    expect((await netctl("network", "rm", "-f", "absent")).exitCode).toBe(0);
  });

  it("takes directories by flag, before and after the subcommand, over the environment's", async () => {
    const networks = { cniVersion: "1.0.0", name: "there", plugins: [{ type: "bridge" }] };
    await writeFile(join(directory, "there.conflist"), JSON.stringify(networks));
    expect((await netctl("network", "ls", "--quiet", "--filter", "type=custom")).stdout).toBe("");
    expect(
      (await netctl("network", "ls", "--quiet", "-f", "type=custom", "--conf-dir", directory)).stdout,
    ).toMatch(/^[0-9a-f]{12}\n$/);
    expect(
      (await netctl("--conf-dir", directory, "network", "ls", "--quiet", "-f", "type=custom")).stdout,
    ).toMatch(/^[0-9a-f]{12}\n$/);
  });

  it("takes a relative directory from where it was started", async () => {
    await netctl("network", "create", "here", "--driver", "none", "--conf-dir", "elsewhere");
    expect(await readdir(join(directory, "elsewhere"))).toEqual(["here.conflist"]);
  });

  it("prints the version of the suite", async () => {
    const { version } = JSON.parse(await readFile(join(import.meta.dirname, "../package.json"), "utf8")) as {
      readonly version: string;
    };
    expect(await netctl("--version")).toMatchObject({ exitCode: 0, stdout: `${version}\n` });
  });

  it("lists networks of anybody, and names a file that gives none", async () => {
    await netctl("network", "create", "mine", "--driver", "none");
    await writeFile(join(directory, "conf/broken.conflist"), "{");
    const foreign = {
      cniVersion: "0.4.0",
      name: "theirs",
      type: "macvlan",
      ipam: { type: "host-local", subnet: "10.9.0.0/24" },
    };
    await writeFile(join(directory, "conf/theirs.conf"), JSON.stringify(foreign));
    const { stdout, stderr } = await netctl("network", "ls");
    expect(stdout.split("\n").map((line) => line.replace(/^[0-9a-f]{12} +/, ""))).toEqual([
      "NETWORK ID     NAME     DRIVER    SCOPE   SUBNETS       ATTACHMENTS",
      "bridge   bridge    local                 0",
      "host     host      local                 0",
      "mine     none      local                 0",
      "none     none      local                 0",
      "theirs   macvlan   local   10.9.0.0/24   0",
      "",
    ]);
    expect(stderr).toMatch(/^netctl: warning: passed over .*broken\.conflist: /);
  });

  it("finds a network by the beginning of its id", async () => {
    await netctl("network", "create", "mine", "--driver", "none");
    const id = (await netctl("network", "ls", "-q", "-f", "name=mine")).stdout.trim();
    const removed = await netctl("network", "rm", id);
    // Its plugin is not installed here: nothing was ever made, so nothing can be left.
    expect(removed).toMatchObject({
      exitCode: 0,
      stdout: "mine\n",
      stderr: expect.stringMatching(/^netctl: warning: /),
    });
    expect(await readdir(join(directory, "conf"))).toEqual([]);
  });

  it("refuses a name that is taken, also by a file of another network", async () => {
    expect(await netctl("network", "create", "mine", "--driver", "none")).toMatchObject({
      exitCode: 0,
      stdout: "mine\n",
    });
    expect((await netctl("network", "create", "mine", "--driver", "none")).stderr).toBe(
      "netctl: network with name mine already exists\n",
    );
    await writeFile(join(directory, "conf/other.conflist"), "{");
    const other = await netctl("network", "create", "other", "--driver", "none");
    expect(other.stderr).toContain(
      `Cannot create network other: there is a file other.conflist in ${directory}/conf already\n`,
    );
  });

  it("prints help for every command, with exit code 0", async () => {
    for (const words of [["--help"], ["network", "create", "--help"], ["help", "sandbox"]]) {
      const { exitCode, stdout } = await netctl(...words);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^Usage: netctl /);
    }
  });
});

describe("chooseColors()", () => {
  it("follows the terminal, NO_COLOR and FORCE_COLOR", () => {
    const paints = (environment: Record<string, string>, terminal: boolean) =>
      chooseColors(environment, terminal).red("x") !== "x";
    expect(paints({}, true)).toBe(true);
    expect(paints({}, false)).toBe(false);
    expect(paints({ NO_COLOR: "1" }, true)).toBe(false);
    expect(paints({ TERM: "dumb" }, true)).toBe(false);
    expect(paints({ FORCE_COLOR: "1" }, false)).toBe(true);
  });
});
