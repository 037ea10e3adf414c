import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { Plugin, Verb } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { TestHost } from "#testing/plugin-host.ts";
import { type ReadmeExample, readmeExamples } from "#testing/readme-examples.ts";
import { type Feature, testWith } from "#testing/requires.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { loadPlugins } from "./plugins.ts";

/** Plugins whose examples need somebody besides: a server, a service, a cluster, a namespace that is the host's. */
const elsewhere: readonly unknown[] = ["dhcp", "dns", "overlay-vxlan", "host"];

const plugins = await loadPlugins();
const examples = readmeExamples().filter(
  ({ list }) =>
    !list.plugins.some((each) => elsewhere.includes(each["type"]) || elsewhere.includes(ipamOf(each))),
);

function ipamOf(plugin: JsonObject): unknown {
  const { ipam } = plugin;
  return isJsonObject(ipam) ? ipam["type"] : undefined;
}

function featuresOf({ list }: ReadmeExample): readonly Feature[] {
  const has = (type: string) => list.plugins.some((each) => each["type"] === type);
  const wanted: Readonly<Partial<Record<Feature, boolean>>> = {
    ipvlan: has("ipvlan"),
    "8021q": has("vlan"),
    dummy: has("dummy"),
    vrf: has("vrf"),
    tun: has("tap"),
    htb: has("bandwidth"),
    ifb: has("bandwidth"),
  };
  return Object.entries(wanted).flatMap(([feature, isWanted]) => (isWanted ? [feature as Feature] : []));
}

describe("examples of the plugins' READMEs", () => {
  let host: TestHost;
  let container: TestNamespace;

  beforeEach(() => {
    host = new TestHost("examples", { plugins: Object.fromEntries(plugins) });
    host.namespace.run(`for each in eth0 eth1; do ip link add $each type veth peer name far-$each; ip link set $each up; done
      ip link add nic0 mtu 1400 address 02:00:00:00:00:01 type veth peer name far-nic0; ip link set nic0 up`);
    container = host.container();
  });
  afterEach(() => host.close());

  function pluginOf(type: unknown): Plugin<PluginHost> {
    const found = plugins.get(String(type));
    if (!found) throw new Error(`No plugin ${String(type)}`);
    return found;
  }

  /** As a runtime writes it for one plugin of the list. */
  function configOf({ list, capabilityArgs }: ReadmeExample, plugin: JsonObject, prevResult?: JsonObject) {
    const declared = field(plugin, "capabilities");
    const given = Object.entries(capabilityArgs).filter(
      ([name]) => isJsonObject(declared) && declared[name] === true,
    );
    const { cniVersion, name } = list;
    const json = { ...plugin, cniVersion, name, runtimeConfig: Object.fromEntries(given) };
    const text = JSON.stringify({ ...json, ...(prevResult ? { prevResult } : {}) });
    // Leases are the test's own.
    return JSON.parse(text.replaceAll("/var/lib/cni/networks", join(host.directory, "leases"))) as JsonObject;
  }

  async function expectCall(
    type: unknown,
    verb: Verb,
    config: JsonObject,
    ifName: string,
  ): Promise<JsonObject> {
    const who = { containerId: "c1", ifName, netns: container.path };
    const { exitCode, json } = await host.call(pluginOf(type), verb, config, who);
    expect(exitCode, `${verb} of ${String(type)}: ${JSON.stringify(json)}`).toBe(0);
    return json;
  }

  /** Records and leases. What was removed is freed behind the answer, in folders that begin with a dot. */
  const files = () =>
    ["state", "leases"]
      .map((name) => join(host.directory, name))
      .filter((directory) => existsSync(directory))
      .flatMap((directory) => readdirSync(directory, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile() && !entry.parentPath.includes("/."))
      .map(({ name }) => name)
      .filter((name) => !/^(lock$|last_reserved_ip|\.)/u.test(name));

  for (const example of examples) {
    testWith(featuresOf(example), `${example.title}: ADD, CHECK and DEL`, async () => {
      const { list, ifName, printed } = example;
      const names = () => host.namespace.json<{ ifname: string }>("ip -j link").map(({ ifname }) => ifname);
      const before = names();
      let result: JsonObject | undefined;
      for (const plugin of list.plugins) {
        result = await expectCall(plugin["type"], "ADD", configOf(example, plugin, result), ifName);
        if (printed && printed.by === plugin["type"])
          expect(masked(result, container)).toEqual(masked(printed.result, container));
      }
      for (const plugin of list.plugins)
        await expectCall(plugin["type"], "CHECK", configOf(example, plugin, result), ifName);
      for (const plugin of [...list.plugins].reverse())
        await expectCall(plugin["type"], "DEL", configOf(example, plugin, result), ifName);
      expect(container.run("ip -o link")).not.toMatch(/^[2-9]/mu);
      expect(names().filter((name) => name !== "cni0")).toEqual(before);
      expect(files()).toEqual([]);
    });
  }
});

/** Without what is drawn, or is another one each time. */
function masked(result: JsonObject, container: TestNamespace): unknown {
  const text = JSON.stringify(result)
    .replaceAll("/run/netns/c1", container.path)
    .replaceAll(/"veth[0-9a-f]{8}"/gu, '"veth"')
    .replaceAll(/"mac":"[0-9a-f:]{17}"/gu, '"mac":"drawn"');
  return JSON.parse(text);
}
