import { mkdir, readdir, writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import type { LintFinding } from "./lint/finding.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(async () => {
  lab = new SuiteLab(suite, "lint");
  await mkdir(lab.path("conf"));
});
afterEach(() => lab.remove());

interface Report {
  readonly schema: string;
  readonly files: readonly string[];
  readonly findings: readonly LintFinding[];
}

const network = (name: string, subnet: string) => ({
  cniVersion: "1.0.0",
  name,
  plugins: [{ type: "bridge", bridge: `br-${name}`, isGateway: true, ipam: { type: "host-local", subnet } }],
});
const write = (file: string, json: unknown) => writeFile(lab.path(file), JSON.stringify(json));

it("finds nothing worse than a note in what netctl itself writes, also while it is used", async () => {
  await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--subnet", "fd01::/64");
  await lab.ok("network", "create", "db", "--internal");
  await lab.ok("network", "create", "home", "-d", "macvlan", "--internal");
  await lab.ok("sandbox", "create", "a", "--network", "db");
  const report = JSON.parse(await lab.ok("lint", "--json")) as Report;
  expect(report).toEqual({
    schema: "netctl.lint/1",
    files: ["db", "home", "web"].map((name) => lab.path(`conf/${name}.conflist`)),
    findings: [],
  });
});

it("exits with 1 for what it finds, in the file that was named or its network, and knows what the others have", async () => {
  lab.host.run("ip link add up0 type bridge; ip addr add 10.5.0.1/16 dev up0; ip link set up0 up");
  await write("conf/10-one.conflist", network("one", "10.1.0.0/16"));
  await write("conf/20-two.conflist", network("two", "10.1.2.0/24"));
  await write("conf/30-three.conflist", network("three", "10.5.2.0/24"));
  await write("new.conflist", network("new", "10.5.2.0/24"));
  const idsOf = async (...words: readonly string[]) => {
    const { exitCode, stdout } = await lab.netctl("lint", "--json", ...words);
    const { findings } = JSON.parse(stdout) as Report;
    const grave = findings.filter(({ severity }) => severity !== "note");
    expect(exitCode).toBe(grave.length > 0 ? 1 : 0);
    return grave.map(({ file, id }) => `${file.slice(lab.directory.length + 1)} ${id}`).sort();
  };
  expect(await idsOf()).toEqual([
    "conf/10-one.conflist subnet-overlaps-network",
    "conf/20-two.conflist subnet-overlaps-network",
    "conf/30-three.conflist subnet-overlaps-host",
  ]);
  expect(await idsOf("two")).toEqual(["conf/20-two.conflist subnet-overlaps-network"]);
  expect(await idsOf(lab.path("new.conflist"))).toEqual([
    "new.conflist subnet-overlaps-host",
    "new.conflist subnet-overlaps-network",
  ]);
  const shown = await lab.netctl("lint", lab.path("conf"));
  expect(shown.stdout).toContain(`${lab.path("conf/20-two.conflist")} $.plugins[0].ipam.subnet\n`);
  expect(shown.stdout).toMatch(/remedy: .*netctl ipam ls/);
  expect(shown.stdout).toMatch(/3 files: 2 errors, 1 warnings, 3 notes\n$/);
});

it("names what is no configuration, and what is not there, and changes nothing", async () => {
  await writeFile(lab.path("conf/bad.conflist"), '{"name": "x",');
  await write("conf/notes.txt", {});
  const bad = await lab.netctl("lint");
  expect(bad).toMatchObject({ exitCode: 1, stderr: "" });
  expect(bad.stdout).toMatch(/bad\.conflist \$\n {2}error {2}unusable: no JSON/);
  expect(await lab.netctl("lint", "nothing")).toMatchObject({
    exitCode: 1,
    stdout: "",
    stderr: `netctl: Cannot lint nothing: there is no such file here, and no network of that name in ${lab.path("conf")}\n`,
  });
  expect((await lab.netctl("lint", "a", "b")).exitCode).toBe(2);
  expect((await readdir(lab.directory)).sort()).toEqual(["conf"]);
});
