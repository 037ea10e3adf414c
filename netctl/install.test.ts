import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type BuiltSuite, buildSuite } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let root: string;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "netctl-install-"));
  mkdirSync(join(root, "opt/bin"), { recursive: true });
  mkdirSync(join(root, "conf"));
});
afterEach(() => rmSync(root, { recursive: true }));

const environment = () => ({
  PATH: `${root}/shell:${process.env["PATH"] ?? ""}`,
  NETCTL_CONF_DIR: join(root, "conf"),
  NETCTL_BIN_DIR: join(root, "opt/bin"),
  NETCTL_STATE_DIR: join(root, "state"),
  NETCTL_RUN_DIR: join(root, "run"),
  NETCTL_CONFIG: "/dev/null",
});
const netctl = (...words: readonly string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [suite.netctl, ...words], {
    encoding: "utf8",
    env: environment(),
  });
  return { exitCode: status, stdout, stderr };
};
const at = (...parts: readonly string[]) => join(root, ...parts);
const text = (...parts: readonly string[]) => readFileSync(at(...parts), "utf8");

describe("install", () => {
  const flags = () => ["--lib-dir", at("opt/lib")];

  test("puts the executables where a runtime looks, and they run from there; uninstall puts back what was before", () => {
    writeFileSync(at("opt/bin/bridge"), "the other bridge", { mode: 0o744 });
    const dry = netctl("install", "--dry-run", ...flags());
    expect(dry.stdout).toContain(`would install ${at("opt/bin/bridge")}\n`);
    expect(text("opt/bin/bridge")).toBe("the other bridge");
    expect(existsSync(at("state"))).toBe(false);

    expect(netctl("install", "--for", "containerd", ...flags())).toMatchObject({ exitCode: 0, stderr: "" });
    const version = execFileSync(at("opt/bin/bridge"), {
      env: { ...environment(), CNI_COMMAND: "VERSION" },
    });
    expect(JSON.parse(version.toString())).toMatchObject({
      supportedVersions: expect.arrayContaining(["1.1.0"]) as unknown,
    });
    expect(execFileSync(at("opt/bin/netctl"), ["version"], { env: environment() }).toString()).toContain(
      `programs  ${at("opt/lib")}`,
    );
    expect(JSON.parse(text("conf/10-netctl.conflist"))).toMatchObject({ name: "netctl" });
    expect(netctl("lint").exitCode).toBe(0);

    // Once more, as an upgrade: what was there first stays kept.
    expect(netctl("install", ...flags()).exitCode).toBe(0);
    writeFileSync(at("opt/bin/host-local"), "a third one");
    const gone = netctl("uninstall");
    expect(gone.exitCode).toBe(0);
    expect(gone.stderr).toBe(
      `netctl: warning: ${at("opt/bin/host-local")} was replaced by somebody else, and stays\n`,
    );
    expect(text("opt/bin/bridge")).toBe("the other bridge");
    expect(readdirSync(at("opt/bin")).sort()).toEqual(["bridge", "host-local"]);
    expect(existsSync(at("opt/lib"))).toBe(false);
    expect(readdirSync(at("conf"))).toEqual([]);
    expect(netctl("uninstall").exitCode).toBe(1);
  });

  test("leaves everything as it was where it can't be done", () => {
    writeFileSync(at("opt/bin/bandwidth"), "the other one");
    // Files come in order: the directory that is in the way stands in the middle.
    mkdirSync(at("opt/bin/loopback/inside"), { recursive: true });
    expect(netctl("install", ...flags())).toMatchObject({ exitCode: 1, stdout: "" });
    expect(text("opt/bin/bandwidth")).toBe("the other one");
    expect(readdirSync(at("opt/bin")).sort()).toEqual(["bandwidth", "loopback"]);
    expect(netctl("install", "--lib-dir", "/elsewhere")).toMatchObject({ exitCode: 2 });
    expect(netctl("install", "--for", "rkt").stderr).toBe(
      "netctl: Cannot install for rkt: expected one of containerd, crio, podman\n",
    );
  });
});

describe("completion", () => {
  beforeEach(() => {
    mkdirSync(at("shell"));
    writeFileSync(at("shell/netctl"), `#!/bin/sh\nexec '${process.execPath}' '${suite.netctl}' "$@"\n`, {
      mode: 0o755,
    });
    for (const name of ["web", "backend"]) {
      writeFileSync(
        at("conf", `${name}.conflist`),
        JSON.stringify({ cniVersion: "1.0.0", name, plugins: [{ type: "bridge" }] }),
      );
    }
  });
  /** What bash would show for the words so far; the last one is being typed. */
  const complete = (...words: readonly string[]) => {
    const quoted = words.map((word) => `'${word}'`).join(" ");
    const script = `source <(netctl completion bash); COMP_WORDS=(netctl ${quoted}); COMP_CWORD=${words.length}; $(complete -p netctl | sed 's/.*-F \\(\\S*\\).*/\\1/'); printf '%s\\n' "\${COMPREPLY[@]}"`;
    const shown = execFileSync("bash", ["--norc", "-c", script], { encoding: "utf8", env: environment() });
    return shown.split("\n").filter(Boolean).sort();
  };

  test("in a real bash: commands, flags, and the names that there are", () => {
    expect(complete("netw")).toEqual(["network"]);
    expect(complete("network", "r")).toEqual(["rm"]);
    expect(complete("network", "rm", "")).toEqual(["backend", "web"]);
    expect(complete("network", "rm", "w")).toEqual(["web"]);
    expect(complete("network", "prune", "--d")).toEqual(["--dry-run"]);
    expect(complete("sandbox", "create", "x", "--network", "b")).toEqual(["backend", "bridge"]);
  });

  test("nothing that is typed is run", () => {
    expect(complete("network", `$(touch ${root}/run-by-completion)`)).toEqual([]);
    expect(existsSync(at("run-by-completion"))).toBe(false);
  });

  test("scripts for the other shells, and a word about those that there are none for", () => {
    expect(netctl("completion", "zsh").stdout).toMatch(/^#compdef netctl/);
    expect(netctl("completion", "fish").stdout).toContain("complete -c netctl");
    expect(netctl("completion", "tcsh")).toMatchObject({ exitCode: 2 });
  });
});

test("manual pages: one for each command, with its flags, exit codes and examples", () => {
  const written = netctl("man", at("man"));
  expect(written).toMatchObject({ exitCode: 0, stderr: "" });
  const pages = readdirSync(at("man/man1"));
  expect(pages).toEqual(expect.arrayContaining(["netctl.1", "netctl-network-create.1", "netctl-lint.1"]));
  expect(pages).not.toContain("netctl-complete.1");
  const create = text("man/man1/netctl-network-create.1");
  expect(create).toContain(".B netctl network create [options] <name>\n");
  expect(create).toContain("\n.B \\-\\-subnet <cidr>\n");
  expect(create).toMatch(/\n\.SH EXIT STATUS\n[\s\S]*\n\.SH EXAMPLES\n\.nf\n {2}netctl network create web\n/);
  for (const page of pages) expect(text("man/man1", page)).toMatch(/^\.TH "NETCTL/);
});
