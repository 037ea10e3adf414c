import { chmod, mkdir, mkdtemp, open, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { trivialHost, trivialPlugin } from "#testing/trivial-plugin.ts";
import { CniError } from "./error.ts";
import { findPlugin } from "./find-plugin.ts";
import { InProcessRunner } from "./in-process-runner.ts";
import { ExecRunner, interpretOutcome } from "./invoke.ts";
import type { Outcome } from "./plugin.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cni-invoke-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function install(name: string, script: string, mode = 0o755): Promise<string> {
  const file = join(directory, name);
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, mode);
  return file;
}

const call = (environment: Record<string, string | undefined> = {}, stdin = "{}") => ({
  environment: { PATH: process.env["PATH"], CNI_PATH: directory, CNI_COMMAND: "ADD", ...environment },
  stdin,
});

describe("findPlugin()", () => {
  it("takes the first executable regular file of that name", async () => {
    const other = join(directory, "other");
    await mkdir(join(directory, "bridge"));
    await mkdir(other);
    await writeFile(join(other, "bridge"), "");
    expect(() => findPlugin("bridge", [directory, other])).toThrow(
      expect.objectContaining({
        code: 4,
        message: `failed to find plugin "bridge" in path [${directory} ${other}]`,
        details: `${directory}/bridge is no regular file, ${other}/bridge is not executable`,
      }),
    );
    await chmod(join(other, "bridge"), 0o755);
    expect(findPlugin("bridge", [join(directory, "gone"), directory, other])).toBe(join(other, "bridge"));
  });

  it("follows a link, as installers make them", async () => {
    await install("multi", "");
    await symlink("multi", join(directory, "bridge"));
    expect(findPlugin("bridge", [directory])).toBe(join(directory, "bridge"));
  });

  it.each([
    ["", 7, "no plugin name provided"],
    ["../evil", 7, 'invalid plugin name: "../evil"'],
    ["/bin/sh", 7, 'invalid plugin name: "/bin/sh"'],
    ["..", 7, 'invalid plugin name: ".."'],
  ])("refuses the name %j", (type, code, message) => {
    expect(() => findPlugin(type, ["/"])).toThrow(expect.objectContaining({ code, message }));
  });

  it("names CNI_PATH if there is none", () => {
    expect(() => findPlugin("bridge", [])).toThrow(
      expect.objectContaining({
        code: 4,
        message: expect.stringContaining("CNI_PATH") as unknown,
      }),
    );
  });
});

describe("ExecRunner", () => {
  it("gives the plugin exactly the call's environment and stdin, and all that it prints back", async () => {
    await install("echo", `cat; echo "$CNI_COMMAND $ODD $HOME" >&2; exit 3`);
    const chunks: string[] = [];
    const runner = new ExecRunner({ onStderr: (text) => chunks.push(text) });
    const stdin = JSON.stringify({ big: "ä".repeat(300_000) });
    const outcome = await runner.run("echo", call({ ODD: "a=b;c", HOME: undefined }, stdin));
    expect(outcome).toEqual({ exitCode: 3, stdout: stdin, stderr: "ADD a=b;c \n" });
    expect(chunks.join("")).toBe("ADD a=b;c \n");
  });

  it("does not mind a plugin that never reads its stdin", async () => {
    await install("deaf", "exec <&-; echo '{}'");
    expect(await new ExecRunner().run("deaf", call({}, "x".repeat(2_000_000)))).toMatchObject({
      exitCode: 0,
      stdout: "{}\n",
    });
  });

  it("kills a plugin at its deadline, and says that it may be tried again", async () => {
    const file = await install("slow", "exec sleep 60");
    await expect(new ExecRunner({ deadlineMs: 100 }).run("slow", call())).rejects.toMatchObject({
      code: 11,
      message: `${file} ran longer than 100 ms`,
    });
  });

  it("kills a plugin when its caller is gone", async () => {
    await install("slow", "echo started >&2; exec sleep 60");
    const gone = new AbortController();
    const runner = new ExecRunner({ onStderr: () => gone.abort() });
    await expect(runner.run("slow", { ...call(), signal: gone.signal })).rejects.toMatchObject({ code: 11 });
    await expect(runner.run("slow", { ...call(), signal: gone.signal })).rejects.toThrow(
      "cancelled before it began",
    );
  });

  it("ends with the plugin, though a child of it keeps stdout open", async () => {
    const pidFile = join(directory, "pid");
    await install("parent", `echo '{}'; sleep 300 & echo $! > ${pidFile}`);
    expect(await new ExecRunner().run("parent", call())).toMatchObject({ exitCode: 0, stdout: "{}\n" });
    // Throws if the child has ended, and the test has shown nothing.
    process.kill(Number(await readFile(pidFile, "utf8")), "SIGKILL");
  });

  it("refuses a flood on stdout", async () => {
    await install("flood", "yes");
    await expect(new ExecRunner({ maxOutputBytes: 10_000 }).run("flood", call())).rejects.toThrow(
      "wrote more than 10000 bytes on stdout",
    );
  });

  it("says which file can't be executed", async () => {
    const file = await install("broken", "");
    await writeFile(file, "#!/no/such/interpreter\n");
    await expect(new ExecRunner().run("broken", call())).rejects.toMatchObject({
      code: 5,
      message: expect.stringContaining(`Cannot execute ${file}`) as unknown,
    });
  });

  it("waits for an executable that is still being written", async () => {
    const file = await install("busy", "echo '{}'");
    const writer = await open(file, "r+");
    const running = new ExecRunner().run("busy", call());
    setTimeout(() => void writer.close(), 300);
    expect(await running).toMatchObject({ exitCode: 0, stdout: "{}\n" });
  });

  it("reports a plugin that was killed", async () => {
    const file = await install("killed", "kill -9 $$");
    const outcome = await new ExecRunner().run("killed", call());
    expect(outcome).toEqual({ exitCode: 1, stdout: "", stderr: `${file} was killed by SIGKILL\n` });
  });
});

describe("interpretOutcome()", () => {
  const outcome = (exitCode: number, stdout: string, stderr = ""): Outcome => ({ exitCode, stdout, stderr });

  it("gives the JSON of a success, if there is any", () => {
    expect(interpretOutcome(outcome(0, '{"ips":[]}\n', "noise"), "p")).toEqual({ ips: [] });
    expect(interpretOutcome(outcome(0, " \n"), "p")).toBeUndefined();
  });

  it.each([
    [outcome(1, '{"code":11,"msg":"later","details":"d"}'), 11, "later", "d"],
    [outcome(1, '{"Code":100,"Msg":"own code"}'), 100, "own code", ""],
    [outcome(1, '{"code":7}'), 7, "plugin p failed with code 7", ""],
    [outcome(1, '{"msg":"no code"}'), 999, "no code", ""],
    [outcome(2, "", "panic: x\n"), 999, "plugin p failed with no error message: panic: x", "exit code 2"],
    [outcome(1, "oops", "why"), 999, "plugin p failed but its diagnostic message is no JSON: oops", "why"],
    [outcome(0, "oops"), 6, "plugin p printed no JSON object on stdout", "oops"],
    [outcome(0, "[]"), 6, "plugin p printed no JSON object on stdout", "[]"],
  ])("%j is an error of code %i", (result, code, message, details) => {
    expect(() => interpretOutcome(result, "p")).toThrow(CniError);
    expect(() => interpretOutcome(result, "p")).toThrow(expect.objectContaining({ code, message, details }));
  });
});

describe("InProcessRunner", () => {
  const stdin = JSON.stringify({ cniVersion: "1.1.0", name: "net1" });
  const environment = { CNI_CONTAINERID: "c1", CNI_NETNS: "/run/netns/a", CNI_IFNAME: "eth0" };

  function runnerWhere(isOurs: (file: string) => boolean, hostNamespace: "unused" | "refused" = "unused") {
    const plugin = trivialPlugin({ hostNamespace });
    const runner = new InProcessRunner({
      load: async (type) => (type === "trivial" ? plugin : undefined),
      host: () => trivialHost,
      isOurs,
      fallback: new ExecRunner(),
    });
    return { plugin, runner };
  }

  it("runs a plugin of the suite here, and another file of that name as a process", async () => {
    const file = await install("trivial", `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.7.7.7/24"}]}'`);
    const ours = runnerWhere((candidate) => candidate === file);
    expect(interpretOutcome(await ours.runner.run("trivial", call(environment, stdin)), "trivial")).toEqual({
      cniVersion: "1.1.0",
      ips: [{ address: "10.1.2.3/24" }],
    });
    expect(ours.plugin.requests).toHaveLength(1);

    const foreign = runnerWhere(() => false);
    expect((await foreign.runner.run("trivial", call(environment, stdin))).stdout).toContain("10.7.7.7/24");
    expect(foreign.plugin.requests).toEqual([]);
  });

  it("does not run a plugin that would delegate again, by the same configuration, for ever", async () => {
    const file = await install("trivial", "");
    const { runner, plugin } = runnerWhere((candidate) => candidate === file, "refused");
    await expect(runner.run("trivial", call(environment, stdin))).rejects.toMatchObject({
      code: 7,
      message: expect.stringContaining('"trivial" as "ipam.type"'),
    });
    expect(plugin.requests).toEqual([]);
  });

  it("needs the file in CNI_PATH like any caller", async () => {
    const { runner, plugin } = runnerWhere(() => true);
    await expect(runner.run("trivial", call(environment, stdin))).rejects.toMatchObject({ code: 4 });
    expect(plugin.requests).toEqual([]);
  });
});
