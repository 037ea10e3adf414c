import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, oneOf } from "#cni/schema-values.ts";
import type { IngressPolicy } from "#nftables/ingress-policy.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface FirewallConfig {
  /** The suite serves "iptables" by nftables, unless `insistOnBackend` is set or a chain of iptables is named. */
  readonly backend: "nftables" | "iptables" | "firewalld";
  /** False where it is this one only if firewalld does not run: `withBackend`. */
  readonly isBackendNamed: boolean;
  /** Of iptables, for rules of the operator's. */
  readonly adminChain: string;
  /** Of firewalld. */
  readonly zone: string;
  readonly ingressPolicy: "open" | IngressPolicy;
}

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  backend: emptyAsAbsent(v.string()),
  insistOnBackend: v.optional(v.boolean(), false),
  iptablesAdminChainName: emptyAsAbsent(v.string()),
  firewalldZone: emptyAsAbsent(v.string()),
  ingressPolicy: emptyAsAbsent(oneOf(["open", "same-bridge", "isolated"])),
});

/** XT_EXTENSION_MAXNAMELEN (include/uapi/linux/netfilter/x_tables.h) without the terminating zero. */
const maxChainBytes = 28;

/** @throws {CniError} 7 with the field and its value */
export function parseFirewallConfig(network: NetworkConfig): FirewallConfig {
  const raw = parseConfig(schema, network.json, { what: "firewall configuration" });
  return {
    backend: parseBackend(raw),
    isBackendNamed: raw.backend !== undefined,
    adminChain: parseChain(raw.iptablesAdminChainName ?? "CNI-ADMIN"),
    zone: raw.firewalldZone ?? "trusted",
    ingressPolicy: raw.ingressPolicy ?? "open",
  };
}

function parseBackend(raw: {
  readonly backend?: string | undefined;
  readonly insistOnBackend: boolean;
  readonly iptablesAdminChainName?: string | undefined;
}): FirewallConfig["backend"] {
  const { backend, insistOnBackend, iptablesAdminChainName: chain } = raw;
  if (backend !== undefined && backend !== "nftables" && backend !== "iptables" && backend !== "firewalld") {
    throw invalid(
      `unrecognized backend ${JSON.stringify(backend)}: must be "nftables", "iptables" or "firewalld"`,
    );
  }
  if (insistOnBackend && backend === undefined) {
    throw invalid('"insistOnBackend" true: needs "backend" to say which one');
  }
  // Somebody keeps rules there that have to be asked first: nftables would pass them over.
  if (chain !== undefined && backend === "nftables") {
    throw invalid(`"iptablesAdminChainName" ${JSON.stringify(chain)}: contradicts "backend" "nftables"`);
  }
  if (backend === "firewalld") return "firewalld";
  const needsIptables = chain !== undefined || (insistOnBackend && backend === "iptables");
  return needsIptables ? "iptables" : "nftables";
}

function parseChain(name: string): string {
  if (Buffer.byteLength(name) > maxChainBytes || /[\s!]|^-/u.test(name)) {
    throw invalid(
      `"iptablesAdminChainName" ${JSON.stringify(name)}: must be a name of at most ${maxChainBytes} bytes, without spaces`,
    );
  }
  return name;
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use firewall configuration: ${problem}`);
}
