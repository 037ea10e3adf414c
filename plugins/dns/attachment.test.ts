import { describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { describeAttachment } from "./attachment.ts";
import { parseDnsConfig } from "./config.ts";

const netns = { path: "/run/netns/c", dev: 4, ino: 5 };

interface Given {
  readonly config?: JsonObject;
  readonly runtimeConfig?: JsonObject;
  readonly labels?: JsonObject[];
  readonly args?: readonly (readonly [string, string])[];
  readonly dns?: JsonObject;
}

function describeOf({ config = {}, runtimeConfig = {}, labels, args = [], dns = {} }: Given) {
  const network: NetworkConfig = {
    cniVersion: "1.1.0",
    name: "net1",
    type: "dns",
    json: config,
    runtimeConfig,
    cniArgs: labels ? { labels } : {},
  };
  const prevResult = decodeResult(
    {
      interfaces: [
        { name: "br0" },
        { name: "eth0", sandbox: netns.path },
        { name: "eth1", sandbox: netns.path },
      ],
      ips: [
        { address: "10.1.0.2/24", interface: 1 },
        { address: "fd00::2/64", interface: 1 },
        { address: "10.2.0.2/24", interface: 2 },
        { address: "10.1.0.1/24", interface: 0 },
      ],
      dns,
    },
    "1.1.0",
  );
  return describeAttachment({
    config: parseDnsConfig(network),
    key: { network: "net1", containerId: "0123456789abcdef", ifName: "eth0" },
    request: { args, netns, config: network },
    prevResult,
  });
}

describe("describeAttachment()", () => {
  it("names a container by label, pod, aliases and id, in this order, each once and in lower case", () => {
    const { entry } = describeOf({
      runtimeConfig: { aliases: { net1: ["Web", "db."], other: ["elsewhere"] } },
      labels: [
        { key: "io.netctl.name", value: "Front" },
        { key: "com.docker.compose.service", value: "web, api" },
        { key: "app", value: "ignored" },
      ],
      args: [
        ["K8S_POD_NAME", "pod"],
        ["K8S_POD_NAMESPACE", "space"],
      ],
    });
    expect(entry.names).toEqual(["front", "pod", "web", "db", "api", "pod.space", "0123456789ab"]);
  });

  it("passes over names that no host can have, and podman's pod that is its own namespace", () => {
    const args = [
      ["K8S_POD_NAME", "same"],
      ["K8S_POD_NAMESPACE", "same"],
    ] as const;
    const labels = [
      { key: "io.netctl.name", value: "not a name" },
      { key: "io.netctl.aliases", value: "-x" },
    ];
    expect(describeOf({ labels, args }).entry.names).toEqual(["same", "0123456789ab"]);
  });

  it("takes the interface's own addresses of all families", () => {
    expect(describeOf({}).entry.addresses).toEqual(["10.1.0.2/24", "fd00::2/64"]);
  });

  it("asks the servers of the runtime, else of the configuration, else of the result before", () => {
    const dns = { nameservers: ["192.0.2.3", "127.0.0.11"], search: ["before.test"], options: ["rotate"] };
    const config = { dns: { nameservers: ["192.0.2.2"], search: ["config.test"] } };
    const asked = { dns: { servers: ["192.0.2.1"], searches: ["asked.test", "."], options: ["ndots:2"] } };
    expect(describeOf({ config, runtimeConfig: asked, dns })).toMatchObject({
      entry: { servers: ["192.0.2.1"] },
      dns: { nameservers: ["127.0.0.11"], search: ["asked.test"], options: ["ndots:2"] },
    });
    expect(describeOf({ config, dns })).toMatchObject({
      entry: { servers: ["192.0.2.2"] },
      dns: { nameservers: ["127.0.0.11"], search: ["config.test"], options: ["rotate"] },
    });
    expect(describeOf({ dns }).entry.servers).toEqual(["192.0.2.3"]);
    // None are invented.
    expect(describeOf({}).dns).toEqual({ nameservers: ["127.0.0.11"] });
  });

  it.each([
    [{ internal: 1 }, {}, "internal"],
    [{ domainName: "a..b" }, {}, "domainName"],
    [{ dns: { nameservers: ["x"] } }, {}, "nameservers"],
    [{}, { aliases: { net1: ["a b"] } }, 'aliases" "a b"'],
    [{}, { dns: { servers: "192.0.2.1" } }, "servers"],
  ])("%j, %j is refused with the field", (config, runtimeConfig, words) => {
    expect(() => describeOf({ config, runtimeConfig })).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringContaining(words) }),
    );
  });
});
