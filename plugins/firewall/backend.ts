import { hasFirewalldRules } from "#nftables/firewalld-rules.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { FirewallConfig } from "./config.ts";
import { Firewalld } from "./firewalld.ts";

/**
 * The same configuration with the backend that serves it here: where none is named, firewalld if it runs, as for the
 * reference. It refuses to forward for whoever is in none of its zones, and no accept of another table outweighs that.
 * The kernel is asked first: it answers at once, and for this network namespace.
 */
export async function withBackend(config: FirewallConfig, host: PluginHost): Promise<FirewallConfig> {
  if (config.isBackendNamed || !mayRun(host)) return config;
  return (await new Firewalld(host.systemBus).isRunning()) ? { ...config, backend: "firewalld" } : config;
}

function mayRun({ nftables }: PluginHost): boolean {
  try {
    return hasFirewalldRules(nftables);
  } catch {
    // Whoever needs nf_tables will say that it can't be used.
    return false;
  }
}
