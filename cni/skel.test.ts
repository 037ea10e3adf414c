import { describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { type TrivialPlugin, trivialHost, trivialPlugin } from "#testing/trivial-plugin.ts";
import { CniError, ErrorCode } from "./error.ts";
import type { Environment, Outcome, Plugin, VerbHost } from "./plugin.ts";
import { emptyResult } from "./result.ts";
import { runVerb } from "./skel.ts";
import { cniVersions } from "./version.ts";

const attachment = {
  CNI_CONTAINERID: "c1",
  CNI_NETNS: "/run/netns/a",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/opt/cni/bin",
};
const config = { cniVersion: "1.1.0", name: "net1", type: "trivial" };
const prevResult = { ips: [{ address: "10.9.9.9/24" }] };

async function run(
  verb: string,
  options: {
    readonly environment?: Environment;
    readonly stdin?: unknown;
    readonly plugin?: Plugin<VerbHost>;
    readonly signal?: AbortSignal;
  } = {},
): Promise<Outcome> {
  const { environment = {}, stdin = config, plugin = trivialPlugin(), signal } = options;
  return await runVerb(
    plugin,
    {
      environment: { ...attachment, CNI_COMMAND: verb, ...environment },
      stdin: typeof stdin === "string" ? stdin : JSON.stringify(stdin),
      ...(signal ? { signal } : {}),
    },
    trivialHost,
  );
}

/** The error object on stdout, once it is sure that the call failed. */
async function failure(...args: Parameters<typeof run>): Promise<unknown> {
  const outcome = await run(...args);
  expect(outcome.exitCode, outcome.stdout).toBe(1);
  return JSON.parse(outcome.stdout) as unknown;
}

async function requestOf(...[verb, options]: Parameters<typeof run>) {
  const plugin = trivialPlugin();
  const outcome = await run(verb, { ...options, plugin });
  expect(outcome.exitCode, outcome.stdout).toBe(0);
  return plugin.requests[0];
}

describe("VERSION and no verb", () => {
  it("answers VERSION with what the plugin speaks, echoing the version asked with", async () => {
    const plugin = trivialPlugin({ versions: ["0.4.0", "1.0.0"] });
    const { stdout, exitCode } = await run("VERSION", { plugin, stdin: { cniVersion: "0.4.0" } });
    expect([exitCode, JSON.parse(stdout)]).toEqual([
      0,
      { cniVersion: "0.4.0", supportedVersions: ["0.4.0", "1.0.0"] },
    ]);
  });

  it.each(["", "no json", "[]", '{"cniVersion":"7.0.0"}', '{"cniVersion":7}'])(
    "answers VERSION on stdin %j with the newest version",
    async (stdin) => {
      const outcome = await run("VERSION", {
        stdin,
        environment: { CNI_NETNS: "dummy", CNI_IFNAME: "", CNI_PATH: "dummy" },
      });
      expect(JSON.parse(outcome.stdout)).toEqual({
        cniVersion: "1.1.0",
        supportedVersions: [...cniVersions],
      });
    },
  );

  it("introduces itself on stderr without CNI_COMMAND", async () => {
    const call = { environment: { CNI_COMMAND: "" }, stdin: "" };
    expect(await runVerb(trivialPlugin(), call, trivialHost, { suiteVersion: "1.2.3" })).toEqual({
      exitCode: 0,
      stdout: "",
      stderr:
        "CNI trivial plugin 1.2.3\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
    });
  });
});

describe("stdin", () => {
  it.each([
    ["", 6, "error unmarshall network config"],
    ["{", 6, "error unmarshall network config"],
    ["[]", 6, "stdin is no JSON object"],
    ["null", 6, "stdin is no JSON object"],
    [{ ...config, name: 5 }, 6, "name 5 must be a string"],
    [{ ...config, name: undefined }, 7, "missing network name"],
    [{ ...config, name: "" }, 7, "missing network name"],
    [{ ...config, name: "a/b" }, 7, "invalid characters found in network name"],
    [{ ...config, name: ".." }, 7, "invalid characters found in network name"],
    [{ ...config, name: "n".repeat(256) }, 7, "256 characters, 255 is the most"],
    [{ ...config, cniVersion: 1 }, 6, "cniVersion 1 must be a string"],
    [{ ...config, cniVersion: "1.1" }, 1, "incompatible CNI versions"],
    [{ ...config, type: {} }, 7, "type {} must be a string"],
    [{ ...config, runtimeConfig: [] }, 7, "runtimeConfig [] must be an object"],
    [{ ...config, prevResult: 5 }, 7, "prevResult 5 must be an object"],
    [{ ...config, prevResult: { ips: [{}] } }, 7, "Cannot use prevResult: ips[0].address is missing"],
  ])("%j gives code %i: %s", async (stdin, code, msg) => {
    const plugin = trivialPlugin();
    expect(await failure("ADD", { stdin, plugin })).toMatchObject({
      code,
      msg: expect.stringContaining(msg) as unknown,
    });
    expect(plugin.requests).toEqual([]);
  });

  it("is looked at after the environment", async () => {
    expect(await failure("ADD", { stdin: "{", environment: { CNI_IFNAME: "" } })).toMatchObject({
      code: 4,
      msg: "required env variables [CNI_IFNAME] missing",
    });
  });

  it.each(["GC", "STATUS"])("needs a name for %s too", async (verb) => {
    expect(await failure(verb, { stdin: { cniVersion: "1.1.0" } })).toMatchObject({
      code: 7,
      msg: "missing network name",
    });
  });

  it("hands the shared fields to the plugin, whatever the case of their keys", async () => {
    const request = await requestOf("ADD", {
      stdin: {
        CniVersion: "1.0.0",
        Name: "net1",
        TYPE: "trivial",
        RuntimeConfig: { mac: "x" },
        args: { cni: { ips: ["10.0.0.1"] } },
        PrevResult: prevResult,
        "cni.dev/unknown": 1,
      },
      environment: { CNI_ARGS: "IP=10.0.0.1;K=V" },
    });
    expect(request).toMatchObject({
      verb: "ADD",
      containerId: "c1",
      ifName: "eth0",
      netns: { path: "/run/netns/a", dev: 4, ino: 2 },
      path: ["/opt/cni/bin"],
      args: [
        ["IP", "10.0.0.1"],
        ["K", "V"],
      ],
      config: {
        cniVersion: "1.0.0",
        name: "net1",
        type: "trivial",
        runtimeConfig: { mac: "x" },
        cniArgs: { ips: ["10.0.0.1"] },
        prevResult: { ips: [{ address: parseCidr("10.9.9.9/24") }] },
      },
    });
  });

  it.each([{ args: 5 }, { args: { cni: "x" } }, {}])("%j gives no args.cni", async (extra) => {
    expect(await requestOf("ADD", { stdin: { ...config, ...extra } })).toMatchObject({
      config: { cniArgs: {} },
    });
  });

  it("refuses malformed CNI_ARGS, but not on DEL", async () => {
    const environment = { CNI_ARGS: "A=1;B" };
    expect(await failure("ADD", { environment })).toMatchObject({ code: 4 });
    expect(await requestOf("DEL", { environment })).toMatchObject({ args: [["A", "1"]] });
  });
});

describe("versions", () => {
  it("no cniVersion means 0.1.0", async () => {
    const { stdout } = await run("ADD", { stdin: { name: "net1" } });
    expect(JSON.parse(stdout)).toEqual({ cniVersion: "0.1.0", ip4: { ip: "10.1.2.3/24" }, dns: {} });
  });

  it.each([
    ["CHECK", "0.3.1"],
    ["GC", "1.0.0"],
    ["STATUS", "0.4.0"],
  ])("%s is not there for a configuration of %s", async (verb, cniVersion) => {
    expect(await failure(verb, { stdin: { ...config, cniVersion, prevResult } })).toMatchObject({
      code: 1,
      msg: `config version does not allow ${verb}`,
    });
  });

  it("refuses a version that the plugin does not list", async () => {
    const plugin = trivialPlugin({ versions: ["0.4.0", "1.0.0"] });
    expect(await failure("ADD", { plugin })).toEqual({
      cniVersion: "1.1.0",
      code: 1,
      msg: "incompatible CNI versions",
      details: 'config is "1.1.0", plugin supports ["0.4.0" "1.0.0"]',
    });
  });

  it("names the configuration's version in an error", async () => {
    expect(await failure("ADD", { stdin: { name: "", cniVersion: "0.4.0" } })).toMatchObject({
      cniVersion: "0.4.0",
    });
  });
});

describe("success", () => {
  it("prints the result of ADD and nothing for the others", async () => {
    expect(await run("ADD")).toEqual({
      exitCode: 0,
      stdout:
        '{\n    "cniVersion": "1.1.0",\n    "ips": [\n        {\n            "address": "10.1.2.3/24"\n        }\n    ]\n}',
      stderr: "",
    });
    for (const verb of ["DEL", "CHECK", "GC", "STATUS"]) {
      const outcome = await run(verb, { stdin: { ...config, prevResult } });
      expect(outcome, verb).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    }
  });

  it("takes back an ADD whose result can't be said in the version asked for", async () => {
    const plugin: TrivialPlugin = trivialPlugin({ add: () => Promise.resolve(emptyResult) });
    const error = await failure("ADD", { plugin, stdin: { ...config, cniVersion: "0.2.0" } });
    expect(error).toMatchObject({
      code: 7,
      msg: expect.stringContaining("no valid IP addresses") as unknown,
    });
    expect(plugin.requests.map(({ verb }) => verb)).toEqual(["DEL"]);
  });
});

describe("prevResult", () => {
  it("is required for CHECK", async () => {
    expect(await failure("CHECK")).toMatchObject({ code: 7, msg: "Required prevResult missing" });
  });

  it("that can't be read does not stop DEL, but is mentioned", async () => {
    const outcome = await run("DEL", { stdin: { ...config, prevResult: { ips: 5 } } });
    expect(outcome).toEqual({
      exitCode: 0,
      stdout: "",
      stderr: "Ignoring prevResult: Cannot use prevResult: ips 5 must be a list\n",
    });
  });
});

it("a runtimeConfig that can't be read does not stop DEL either", async () => {
  expect(await run("DEL", { stdin: { ...config, runtimeConfig: [] } })).toEqual({
    exitCode: 0,
    stdout: "",
    stderr: "Ignoring runtimeConfig: [] must be an object\n",
  });
});

describe("network namespace", () => {
  it.each([
    ["/gone", "no such file"],
    ["/invalid", "not a network namespace"],
    ["/host", "plugin's netns and netns from CNI_NETNS should not be the same"],
  ])("%s is refused on ADD and CHECK before the plugin is called", async (path, msg) => {
    for (const verb of ["ADD", "CHECK"]) {
      const plugin = trivialPlugin();
      const error = await failure(verb, {
        plugin,
        stdin: { ...config, prevResult },
        environment: { CNI_NETNS: path },
      });
      expect(error).toMatchObject({ code: 8, msg: expect.stringContaining(msg) as unknown });
      expect(plugin.requests).toEqual([]);
    }
  });

  it.each(["", "/gone", "/invalid"])("%j is no namespace to DEL, which goes on without", async (path) => {
    expect(await requestOf("DEL", { environment: { CNI_NETNS: path } })).not.toHaveProperty("netns");
  });

  it("of the host given to DEL: cleans up without it, then says code 8", async () => {
    const plugin = trivialPlugin();
    const error = await failure("DEL", { plugin, environment: { CNI_NETNS: "/host" } });
    expect(error).toMatchObject({
      code: 8,
      msg: "plugin's netns and netns from CNI_NETNS should not be the same",
    });
    expect(plugin.requests).toHaveLength(1);
    expect(plugin.requests[0]).not.toHaveProperty("netns");
  });

  it.each(["1", "true", "TRUE"])("of the host is allowed with CNI_NETNS_OVERRIDE=%s", async (override) => {
    const environment = { CNI_NETNS: "/host", CNI_NETNS_OVERRIDE: override };
    for (const verb of ["ADD", "DEL"])
      expect(await requestOf(verb, { environment })).toMatchObject({ netns: { path: "/host" } });
  });

  it("of a container is refused by a plugin for the host's alone, which needs none for DEL", async () => {
    const plugin = trivialPlugin({ hostNamespace: "required" });
    expect(await failure("ADD", { plugin })).toMatchObject({ code: 8 });
    expect((await run("ADD", { plugin, environment: { CNI_NETNS: "/host" } })).exitCode).toBe(0);
    expect((await run("DEL", { plugin })).exitCode).toBe(0);
  });

  it("need not be one at all for a plugin that opens none, as an IPAM plugin", async () => {
    const plugin = trivialPlugin({ hostNamespace: "unused" });
    for (const path of ["/host", "/gone"]) {
      expect((await run("ADD", { plugin, environment: { CNI_NETNS: path } })).exitCode).toBe(0);
    }
    expect(plugin.requests.at(-1)).toMatchObject({ netns: { path: "/gone", dev: 0, ino: 0 } });
  });
});

describe("GC", () => {
  const list = [{ containerID: "c1", ifname: "eth0" }];
  const valid = [{ containerId: "c1", ifName: "eth0" }];
  it.each([
    [{ "cni.dev/valid-attachments": list }, valid],
    [{ "cni.dev/attachments": list }, valid],
    [{ "cni.dev/attachments": [], "cni.dev/valid-attachments": list }, valid],
    [{ "cni.dev/valid-attachments": [], "cni.dev/attachments": list }, []],
    [{ "cni.dev/valid-attachments": [{ ContainerID: "c1", IfName: "eth0" }] }, valid],
    [{}, undefined],
    [{ "cni.dev/valid-attachments": null }, undefined],
  ])("%j", async (extra, expected) => {
    const request = await requestOf("GC", { stdin: { ...config, ...extra } });
    expect(request && "validAttachments" in request ? request.validAttachments : undefined).toEqual(expected);
  });

  it.each([["x"], [{}], [[{ containerID: "c1" }]], [[5]]])(
    "refuses the list %j rather than delete",
    async (bad) => {
      const plugin = trivialPlugin();
      expect(
        await failure("GC", { plugin, stdin: { ...config, "cni.dev/valid-attachments": bad } }),
      ).toMatchObject({ code: 7 });
      expect(plugin.requests).toEqual([]);
    },
  );
});

describe("errors", () => {
  const throwing = (thrown: unknown) =>
    trivialPlugin({
      add: () => {
        throw thrown;
      },
    });

  it("keep code, text and details, and name their causes", async () => {
    const kernel = new Error("EEXIST: File exists");
    const link = new Error("Cannot create link eth0", { cause: kernel });
    const plugin = throwing(
      new CniError(ErrorCode.TryAgainLater, "Cannot attach", { details: "hint", cause: link }),
    );
    expect(await failure("ADD", { plugin })).toEqual({
      cniVersion: "1.1.0",
      code: 11,
      msg: "Cannot attach",
      details: "hint; Cannot create link eth0; EEXIST: File exists",
    });
  });

  it("do not say twice what an error quotes of its cause", async () => {
    const range = new RangeError("Gateway 10.9.0.1 not in network 10.1.0.0/24");
    const set = new RangeError(`invalid range set 0: ${range.message}`, { cause: range });
    const plugin = throwing(
      new CniError(ErrorCode.InvalidNetworkConfig, `Cannot: ${set.message}`, { cause: set }),
    );
    expect(await failure("ADD", { plugin })).toEqual({
      cniVersion: "1.1.0",
      code: 7,
      msg: "Cannot: invalid range set 0: Gateway 10.9.0.1 not in network 10.1.0.0/24",
    });
  });

  it("that come with errors of undoing keep the first one's code", async () => {
    const first = new CniError(ErrorCode.InvalidNetworkConfig, "mtu is too high");
    const plugin = throwing(
      new AggregateError([first, new Error("link stayed")], "and undo failed", { cause: first }),
    );
    expect(await failure("ADD", { plugin })).toMatchObject({
      code: 7,
      msg: "mtu is too high",
      details: expect.stringContaining("link stayed") as unknown,
    });
  });

  it.each([
    ["IoError", 5],
    ["NamespaceError", 8],
    ["LockTimeoutError", 11],
    ["NftablesUnavailableError", 50],
    ["toString", 999],
  ])("of the folders below get the code of their kind: %s is %i, after an undo too", async (name, code) => {
    const error = Object.assign(new Error("Cannot write"), { name });
    expect(await failure("ADD", { plugin: throwing(error) })).toMatchObject({ code, msg: "Cannot write" });
    const incomplete = new AggregateError([new Error("link stayed")], "both", { cause: error });
    expect(await failure("ADD", { plugin: throwing(incomplete) })).toMatchObject({
      code,
      msg: "Cannot write",
      details: expect.stringContaining("link stayed") as unknown,
    });
  });

  it("of a kind nobody expected are code 999 with their stack on stderr", async () => {
    const outcome = await run("ADD", { plugin: throwing(new TypeError("x is not a function")) });
    expect(JSON.parse(outcome.stdout)).toMatchObject({ code: 999, msg: "x is not a function" });
    expect(outcome.stderr).toContain("skel.test.ts");
  });

  it.each([
    ["a string", "a string"],
    [undefined, "undefined"],
    [null, "null"],
    [Symbol("s"), "Symbol(s)"],
    [Object.create(null), "a thrown object that has no text"],
    [
      {
        toString: () => {
          throw new Error("no");
        },
      },
      "a thrown object that has no text",
    ],
    [Proxy.revocable({}, {}).proxy, "[object Object]"],
    [new Error(""), "Error"],
    [new CniError(Number.NaN, ""), "unknown error"],
  ])("of any thrown thing are one JSON object (%#)", async (thrown, msg) => {
    expect(await failure("ADD", { plugin: throwing(thrown) })).toMatchObject({ code: 999, msg });
  });

  it("with a cause that leads back to itself end", async () => {
    const error = new CniError(5, "loop");
    error.cause = new Error("inner", { cause: error });
    expect(await failure("ADD", { plugin: throwing(error) })).toMatchObject({ details: "inner" });
  });

  it("a call that is cancelled already reaches no plugin", async () => {
    const plugin = trivialPlugin();
    expect(await failure("ADD", { plugin, signal: AbortSignal.abort() })).toMatchObject({ code: 11 });
    expect(plugin.requests).toEqual([]);
  });
});
