import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { referenceRules } from "#plugins/reference-rules.ts";
import { describeAttachment } from "./attachment.ts";
import { withBackend } from "./backend.ts";
import { type FirewallConfig, parseFirewallConfig } from "./config.ts";
import { isIsolated } from "./isolated-port.ts";
import { decodeMade, type Made, madeOf } from "./made.ts";
import { elementsOf, missingOwnRules } from "./rules.ts";

/** @throws {CniError} 999 with everything that is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const record = host.journal.read(key, "firewall");
  const config = await asMade(parseFirewallConfig(request.config), decodeMade(record), host);
  const made = madeOf(describeAttachment({ config, key, prevResult: request.prevResult }));
  const differences = await host.nftables.differences(elementsOf(made, key));
  const problems = [
    ...differences.map(({ message }) => `nftables: ${message}`),
    ...(await missingOwnRules({ key, made, host })),
  ];
  // Without a record it may be the reference plugin's, with its rules.
  if (!record && problems.length > 0) {
    const theirs = await referenceRules(host, request.environment);
    if (await theirs.hasForwarding(made.addresses)) return;
  }
  const port = decodeMade(record)?.isolatedPort;
  if (port && !isIsolated(port, host)) {
    problems.push(`bridge port ${JSON.stringify(port)} is not isolated`);
  }
  if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
}

/** firewalld may have been started or stopped since the ADD. */
async function asMade(
  config: FirewallConfig,
  made: Made | undefined,
  host: PluginHost,
): Promise<FirewallConfig> {
  if (!made || config.isBackendNamed) return await withBackend(config, host);
  return { ...config, backend: made.backend };
}
