import { describe, expect, test } from "vitest";
import { CniError } from "#cni/error.ts";
import type { JsonObject } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { parseFirewallConfig } from "./config.ts";

function network(json: JsonObject): NetworkConfig {
  return {
    cniVersion: "1.1.0",
    name: "net1",
    type: "firewall",
    json: { cniVersion: "1.1.0", name: "net1", type: "firewall", ...json },
    runtimeConfig: {},
    cniArgs: {},
  };
}

function refusal(json: JsonObject): CniError {
  try {
    parseFirewallConfig(network(json));
  } catch (error) {
    expect(error).toBeInstanceOf(CniError);
    return error as CniError;
  }
  throw new Error(`${JSON.stringify(json)} was accepted`);
}

test("defaults are those of the reference plugin, by nftables", () => {
  const defaults = {
    backend: "nftables",
    isBackendNamed: false,
    adminChain: "CNI-ADMIN",
    zone: "trusted",
    ingressPolicy: "open",
  };
  expect(parseFirewallConfig(network({}))).toEqual(defaults);
  const empty = { backend: "", iptablesAdminChainName: "", firewalldZone: "", ingressPolicy: "" };
  expect(parseFirewallConfig(network(empty))).toEqual(defaults);
});

describe("backend", () => {
  test.each([
    [{ backend: "nftables" }, "nftables"],
    [{ backend: "iptables" }, "nftables"],
    [{ backend: "iptables", insistOnBackend: true }, "iptables"],
    [{ backend: "firewalld" }, "firewalld"],
    [{ iptablesAdminChainName: "MY-RULES" }, "iptables"],
    [{ backend: "iptables", iptablesAdminChainName: "MY-RULES" }, "iptables"],
  ])("%j is served by %s", (json, backend) => {
    expect(parseFirewallConfig(network(json)).backend).toBe(backend);
  });

  test.each([
    [{ backend: "pf" }, /unrecognized backend "pf"/],
    [{ insistOnBackend: true }, /"insistOnBackend" true: needs "backend"/],
    [{ backend: "nftables", iptablesAdminChainName: "X" }, /"iptablesAdminChainName" "X": contradicts/],
    [{ iptablesAdminChainName: "A-CHAIN-OF-MORE-THAN-28-BYTES" }, /at most 28 bytes/],
    [{ iptablesAdminChainName: "-j DROP" }, /without spaces/],
    [{ ingressPolicy: "closed" }, /ingressPolicy "closed" must be one of/],
  ])("%j is refused", (json, problem) => {
    const { code, message } = refusal(json);
    expect(code).toBe(7);
    expect(message).toMatch(problem);
  });
});
