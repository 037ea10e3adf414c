import { readlinkSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { hasPathsOfItsOwn, ownLocality } from "./locality.ts";
import { decodeHeader, decodeRequest, encodeRequest, headerBytes } from "./protocol.ts";

function request(environment: Readonly<Record<string, string>>, config: unknown = {}) {
  const stdin = typeof config === "string" ? config : JSON.stringify(config);
  const bytes = encodeRequest({ name: "bridge", environment, stdin, locality: ownLocality(), timeoutMs: 1 });
  return decodeRequest(decodeHeader(bytes), bytes.subarray(headerBytes));
}

describe("hasPathsOfItsOwn()", () => {
  it.each([
    ["no path at all", {}, {}],
    ["a named namespace", { CNI_NETNS: "/run/netns/a", CNI_PATH: "/opt/cni/bin:/usr/lib/cni" }, {}],
    ["another process's", { CNI_NETNS: "/proc/77/ns/net", CNI_PATH: "" }, {}],
    ["a name that only begins so", { CNI_NETNS: "/proc/selfish/ns/net" }, {}],
    ["files of the configuration", {}, { ipam: { dataDir: "/var/lib/x", resolvConf: "/etc/resolv.conf" } }],
    ["a configuration that can't be read", {}, '{"ipam":{"dataDir":"x"'],
    ["one whose IPAM is no object", {}, { dataDir: "/x", ipam: "resolvConf" }],
  ])("is false for %s", (_, environment, config) => {
    expect(hasPathsOfItsOwn(request(environment, config))).toBe(false);
  });

  it.each([
    ["a relative namespace", { CNI_NETNS: "ns" }, {}],
    ["the caller's own process", { CNI_NETNS: "/proc/self/ns/net" }, {}],
    ["its thread, with slashes to spare", { CNI_NETNS: "//proc//thread-self/ns/net" }, {}],
    ["a descriptor it has open", { CNI_NETNS: "/dev/fd/7" }, {}],
    ["its standard input", {}, { ipam: { resolvConf: "/dev/stdin" } }],
    ["a relative folder in CNI_PATH", { CNI_PATH: "/opt/cni/bin:bin" }, {}],
    ["a relative folder of backups", {}, { dataDir: "backups" }],
    ["a relative folder of leases, in any case", {}, { IPAM: { datadir: "leases" } }],
  ])("is true for %s", (_, environment, config) => {
    expect(hasPathsOfItsOwn(request(environment, config))).toBe(true);
  });
});

it("ownLocality() has the numbers that the kernel gives the namespaces", () => {
  const { network, mount } = ownLocality();
  expect(`net:[${network}]`).toBe(readlinkSync("/proc/self/ns/net"));
  expect(`mnt:[${mount}]`).toBe(readlinkSync("/proc/self/ns/mnt"));
});
