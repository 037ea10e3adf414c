import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type BundledChild, bundleChild } from "#testing/bundled-child.ts";
import { type BuiltService, buildService, NetdLab } from "#testing/netd-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";

/** One verb of a chain, as netctl runs it; prints the result or every error. */
const program = `
  import { parseConfList } from "#cni/conflist.ts";
  import { ExecRunner } from "#cni/invoke.ts";
  import { encodeResult } from "#cni/result-versions.ts";
  import { NetdChains } from "#netd/chain-client.ts";
  import { ResultCache } from "#runtime/cache.ts";
  import {
    addNetworkList, checkNetworkList, delNetworkList, gcNetworkList, statusNetworkList,
  } from "#runtime/chain.ts";

  const { verb, conflist, target, valid, environment, path, results } = JSON.parse(process.argv[2]);
  const abort = new AbortController();
  process.on("SIGTERM", () => abort.abort(new Error("ended by SIGTERM")));
  const list = parseConfList(JSON.stringify(conflist));
  const host = {
    runner: new ExecRunner(),
    path,
    environment,
    cache: new ResultCache(results),
    service: new NetdChains(environment.NETCTL_RUN_DIR),
    signal: abort.signal,
  };
  const run = {
    ADD: addNetworkList,
    DEL: delNetworkList,
    CHECK: checkNetworkList,
    GC: () => gcNetworkList(list, valid, host),
    STATUS: () => statusNetworkList(list, host),
  }[verb];
  const describe = ({ name, message, type, verb, code, cause }) => ({
    name, message, type, verb, code, details: cause?.details,
  });
  run(list, target, host).then(
    (result) => console.log(JSON.stringify(verb === "ADD" ? encodeResult(result, list.cniVersion) : {})),
    (error) => console.log(JSON.stringify({ message: error.message, errors: error.errors.map(describe) })),
  );
`;

/** Somebody else's plugin, which fails at whatever it is asked. */
const failing = `#!/bin/sh
cat > /dev/null
echo '{"cniVersion":"1.1.0","code":'$((100 + \${#CNI_COMMAND}))',"msg":"no '$CNI_COMMAND' today","details":"of '$CNI_CONTAINERID'"}'
exit 1
`;

let service: BuiltService;
let child: BundledChild;
let lab: NetdLab;
let container: TestNamespace;
let traces = 0;

beforeAll(async () => {
  [service, child] = await Promise.all([buildService(), bundleChild(program)]);
  writeFileSync(join(service.foreign, "failing"), failing, { mode: 0o755 });
});
afterAll(() => {
  service.remove();
  child.remove();
});
beforeEach(() => {
  lab = new NetdLab(service);
  container = lab.namespace();
});
afterEach(() => lab.remove());

const portmap = { type: "portmap", capabilities: { portMappings: true } };

function conflist(plugins: readonly unknown[] = [lab.config({ ipMasq: true, isGateway: true }), portmap]) {
  return { cniVersion: "1.1.0", name: "net1", plugins };
}

interface ChainCall {
  readonly conflist?: unknown;
  readonly capabilityArgs?: unknown;
  readonly valid?: readonly unknown[];
  readonly standalone?: boolean;
}

function start(verb: string, call: ChainCall = {}) {
  const trace = lab.path(`chain-trace-${traces++}`);
  const target = {
    containerId: "c1",
    netns: container.path,
    ifName: "eth0",
    args: [["IgnoreUnknown", "1"]],
    capabilityArgs: call.capabilityArgs ?? {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }],
    },
  };
  const environment = {
    ...lab.environment,
    NETCTL_FAULT_TRACE: trace,
    ...(call.standalone ? { NETCTL_STANDALONE: "1" } : {}),
  };
  const argument = JSON.stringify({
    verb,
    conflist: call.conflist ?? conflist(),
    target,
    valid: call.valid ?? [],
    environment,
    path: [service.bin, service.foreign],
    results: lab.path("results"),
  });
  const process_ = spawn("nsenter", [`--net=${lab.host.path}`, process.execPath, child.file, argument], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"] },
  });
  return { child: process_, ended: ended(process_, trace) };
}

async function ended(child: ChildProcess, trace: string) {
  let stdout = "";
  child.stdout?.on("data", (piece: Buffer) => (stdout += piece.toString()));
  await new Promise((resolve) => child.on("close", resolve));
  const points = existsSync(trace) ? readFileSync(trace, "utf8") : "";
  const by = ["netd", "standalone"].filter((place) => points.includes(`${place}/`));
  return { stdout, by, requests: points.split("netd/accepted").length - 1 };
}

async function run(verb: string, call: ChainCall = {}) {
  return await start(verb, call).ended;
}

/** What differs from one ADD to the next. */
function normal(text: string): string {
  return text.replaceAll(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, "MAC").replaceAll(/10\.1\.0\.\d+\/24/g, "ADDRESS");
}

test("a chain is one request, with the answers of the plugins run one by one", async () => {
  const answers = async (standalone: boolean) => {
    const texts: string[] = [];
    for (const verb of ["ADD", "CHECK", "DEL", "CHECK"]) {
      const { stdout, by, requests } = await run(verb, { standalone });
      expect(requests).toBeLessThanOrEqual(standalone ? 0 : 1);
      if (verb !== "CHECK" || texts.length === 1) expect(by).toEqual([standalone ? "standalone" : "netd"]);
      texts.push(normal(stdout));
    }
    expect(lab.remains()).toEqual([]);
    expect(lab.links(container)).toEqual(["lo"]);
    return texts;
  };
  const oneByOne = await answers(true);
  expect(oneByOne[0]).toContain("ADDRESS");
  await lab.startNetd();
  expect(await answers(false)).toEqual(oneByOne);
});

test("a chain that fails says the same and leaves nothing, whoever has run it", async () => {
  const failures = [
    { conflist: conflist([lab.config(), { type: "failing" }]) },
    { conflist: conflist([lab.config({ mtu: -1 }), portmap]) },
    {
      conflist: conflist([lab.config({ ipMasq: true, isGateway: true }), portmap]),
      capabilityArgs: { portMappings: [{ hostPort: 0 }] },
    },
  ];
  const answers = async (standalone: boolean) => {
    const texts: string[] = [];
    for (const each of failures) texts.push((await run("ADD", { ...each, standalone })).stdout);
    return texts;
  };
  const oneByOne = await answers(true);
  expect(oneByOne[0]).toContain("plugin failing failed ADD with code 103: no ADD today (of c1)");
  expect(oneByOne[0]).toContain("no DEL today");
  await lab.startNetd();
  expect(await answers(false)).toEqual(oneByOne);
  expect(lab.remains()).toEqual([]);
  expect(lab.links(container)).toEqual(["lo"]);
});

test("a DEL that finds less than the ADD has made says the same", async () => {
  const list = conflist([lab.config(), { type: "failing" }]);
  const oneByOne = await run("DEL", { conflist: list, standalone: true });
  await lab.startNetd();
  expect((await run("DEL", { conflist: list })).stdout).toBe(oneByOne.stdout);
});

test("so are GC, which spares what lives, and STATUS", async () => {
  const answers = async (standalone: boolean) => {
    const by = standalone ? { requests: 0, by: ["standalone"] } : { requests: 1, by: ["netd"] };
    const done = { stdout: "{}\n", ...by };
    const status = await run("STATUS", { standalone });
    expect(status).toEqual(done);
    await run("ADD", { standalone });
    expect(await run("GC", { standalone, valid: [{ containerId: "c1", ifName: "eth0" }] })).toEqual(done);
    expect(lab.links(container)).toEqual(["lo", "eth0"]);
    // What the runtime knows is detached; this is for what it has forgotten.
    rmSync(lab.path("results"), { recursive: true });
    expect(await run("GC", { standalone })).toEqual(done);
    expect(lab.remains()).toEqual([]);
    expect(lab.links(container)).toEqual(["lo"]);
    const foreign = conflist([lab.config(), { type: "failing" }, { type: "failing" }]);
    const failures = [];
    for (const verb of ["GC", "STATUS"])
      failures.push((await run(verb, { standalone, conflist: foreign })).stdout);
    return failures;
  };
  const oneByOne = await answers(true);
  expect(oneByOne[0]?.split('"code":102')).toHaveLength(3);
  expect(oneByOne[1]).toContain("plugin failing failed STATUS with code 106");
  await lab.startNetd();
  expect(await answers(false)).toEqual(oneByOne);
});

const waiting = () => conflist([lab.config({ ipam: { type: "waiting" } })]);

test("a caller that is killed takes its chain with it", async () => {
  await lab.startNetd();
  const started = start("ADD", { conflist: waiting() });
  await lab.file("gate", "arrived-c1");
  started.child.kill("SIGKILL");
  await started.ended;
  lab.openGate();
  while (lab.remains().length > 0 || lab.links(container).length > 1) await sleep(5);
});

test("a caller that gives up hears that all of it was taken back", async () => {
  await lab.startNetd();
  const started = start("ADD", { conflist: waiting() });
  await lab.file("gate", "arrived-c1");
  started.child.kill("SIGTERM");
  lab.openGate();
  expect((await started.ended).stdout).toContain('"code":11');
  expect(lab.remains()).toEqual([]);
  expect(lab.links(container)).toEqual(["lo"]);
});

test("a caller whose netd is killed runs the plugins itself", async () => {
  const netd = await lab.startNetd();
  const started = start("ADD", { conflist: waiting() });
  await lab.file("gate", "arrived-c1");
  netd.kill("SIGKILL");
  lab.openGate();
  const { stdout, by } = await started.ended;
  expect(stdout).toContain("10.1.0.9/24");
  expect(by).toEqual(["netd", "standalone"]);
});
