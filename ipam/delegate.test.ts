import { describe, expect, test } from "vitest";
import type { AddRequest, Call, GcRequest, NetworkConfig, Outcome } from "#cni/plugin.ts";
import { NoDelegateError, type PluginRunner } from "#cni/plugin-runner.ts";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { IpamDelegate, ipamType } from "./delegate.ts";

/** Answers each verb as told, and remembers what it was asked. */
class ScriptedRunner implements PluginRunner {
  readonly calls: { readonly type: string; readonly call: Call }[] = [];
  readonly #answers: Readonly<Record<string, Outcome>>;

  constructor(answers: Readonly<Record<string, Outcome>> = {}) {
    this.#answers = answers;
  }

  run(type: string, call: Call): Promise<Outcome> {
    this.calls.push({ type, call });
    return Promise.resolve(this.#answers[call.environment["CNI_COMMAND"] ?? ""] ?? success(""));
  }

  get verbs(): string[] {
    return this.calls.map(({ call }) => call.environment["CNI_COMMAND"] ?? "");
  }
}

const success = (stdout: string): Outcome => ({ exitCode: 0, stdout, stderr: "" });
const failure = (code: number, msg: string): Outcome => ({
  exitCode: 1,
  stdout: JSON.stringify({ code, msg, details: "why" }),
  stderr: "",
});

function config(version: NetworkConfig["cniVersion"], ipam?: object): NetworkConfig {
  const json = { cniVersion: version, name: "net1", type: "bridge", ...(ipam ? { ipam: { ...ipam } } : {}) };
  return { cniVersion: version, name: "net1", type: "bridge", json, runtimeConfig: {}, cniArgs: {} };
}

function addRequest(network: NetworkConfig): AddRequest {
  return {
    verb: "ADD",
    config: network,
    environment: { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_PATH: "/bin", OTHER: "kept" },
    path: ["/bin"],
    stdin: '{"the":"whole"}',
    signal: new AbortController().signal,
    onStderr: () => undefined,
    containerId: "c1",
    ifName: "eth0",
    args: [],
    netns: { path: "/run/netns/x", dev: 4, ino: 5 },
  };
}

const gcRequest = (network: NetworkConfig): GcRequest => {
  const { containerId: _id, ifName: _name, args: _args, netns: _netns, ...shared } = addRequest(network);
  return { ...shared, verb: "GC", validAttachments: [] };
};

const result = JSON.stringify({
  cniVersion: "0.4.0",
  interfaces: [{ name: "odd" }],
  ips: [{ version: "4", interface: 0, address: "10.1.0.2/24", gateway: "10.1.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: { nameservers: ["10.0.0.53"] },
});

describe("ipamType()", () => {
  test.each([
    [undefined, undefined],
    [{}, undefined],
    [{ type: "" }, undefined],
    [{ Type: "host-local" }, "host-local"],
  ])("of %j is %j", (ipam, expected) => {
    expect(ipamType(config("1.0.0", ipam).json)).toBe(expected);
  });

  test.each([["text"], [[]], [{ type: 5 }]])("refuses %j", (ipam) => {
    expect(() => ipamType({ ipam })).toThrow(`Cannot use IPAM configuration ${JSON.stringify(ipam)}`);
  });
});

describe("IpamDelegate", () => {
  test("hands on the whole input with the verb, and returns what IPAM may say", async () => {
    const runner = new ScriptedRunner({ ADD: success(result) });
    const request = addRequest(config("0.4.0", { type: "host-local" }));
    expect(await new IpamDelegate(runner).add(request)).toEqual({
      interfaces: [],
      ips: [{ address: parseCidr("10.1.0.2/24"), gateway: parseIp("10.1.0.1") }],
      routes: [{ dst: parseCidr("0.0.0.0/0") }],
      dns: { nameservers: ["10.0.0.53"] },
    });
    expect(runner.calls).toMatchObject([
      { type: "host-local", call: { environment: { ...request.environment }, stdin: request.stdin } },
    ]);
    await new IpamDelegate(runner).del(request);
    expect(runner.calls[1]?.call).toMatchObject({ environment: { CNI_COMMAND: "DEL", OTHER: "kept" } });
  });

  test("does nothing where no plugin is named", async () => {
    const runner = new ScriptedRunner();
    const delegate = new IpamDelegate(runner);
    const network = config("1.1.0");
    expect(await delegate.add(addRequest(network))).toBeUndefined();
    await delegate.del(addRequest(network));
    await delegate.gc(gcRequest(network));
    expect(runner.calls).toEqual([]);
  });

  test("throws the plugin's own error, after a DEL", async () => {
    const runner = new ScriptedRunner({ ADD: failure(123, "no lease") });
    const adding = new IpamDelegate(runner).add(addRequest(config("1.0.0", { type: "dhcp" })));
    await expect(adding).rejects.toMatchObject({ code: 123, message: "no lease", details: "why" });
    expect(runner.verbs).toEqual(["ADD", "DEL"]);
  });

  test("keeps the first error where DEL fails as well", async () => {
    const runner = new ScriptedRunner({ ADD: failure(123, "no lease"), DEL: failure(5, "no disk") });
    const adding = new IpamDelegate(runner).add(addRequest(config("1.0.0", { type: "dhcp" })));
    await expect(adding).rejects.toMatchObject({ code: 123, message: "no lease" });
  });

  test("sends no DEL where it would free the address of a container that runs", async () => {
    for (const message of [
      "failed to allocate for range 0: 10.1.0.2 has been allocated to c1, duplicate allocation is not allowed",
      "failed to allocate for range 0: requested IP address 10.1.0.2 is not available in range set a-b",
    ]) {
      const runner = new ScriptedRunner({ ADD: failure(999, message) });
      const adding = new IpamDelegate(runner).add(addRequest(config("1.0.0", { type: "host-local" })));
      await expect(adding).rejects.toThrow(message);
      expect(runner.verbs).toEqual(["ADD"]);
    }
  });

  test("refuses an answer without addresses, and gives back what there may be", async () => {
    for (const stdout of ["", "{}", '{"cniVersion":"1.0.0","ips":[]}']) {
      const runner = new ScriptedRunner({ ADD: success(stdout) });
      const adding = new IpamDelegate(runner).add(addRequest(config("1.0.0", { type: "static" })));
      await expect(adding).rejects.toMatchObject({
        code: 7,
        message: "IPAM plugin returned missing IP config",
      });
      expect(runner.verbs).toEqual(["ADD", "DEL"]);
    }
  });

  test("asks for GC from 1.1.0 on", async () => {
    const runner = new ScriptedRunner();
    const delegate = new IpamDelegate(runner);
    await delegate.gc(gcRequest(config("1.0.0", { type: "host-local" })));
    expect(runner.verbs).toEqual([]);
    await delegate.gc(gcRequest(config("1.1.0", { type: "host-local" })));
    expect(runner.verbs).toEqual(["GC"]);
  });
});

test("a plugin that hands out no addresses is refused on ADD, and has none to take back on DEL", async () => {
  const delegate = new IpamDelegate({ run: (type) => Promise.reject(new NoDelegateError(type)) });
  const request = addRequest(config("1.1.0", { type: "bridge" }));
  await expect(delegate.add(request)).rejects.toMatchObject({
    code: 7,
    message: expect.stringContaining('"bridge"'),
  });
  await expect(delegate.del(request)).resolves.toBeUndefined();
});
