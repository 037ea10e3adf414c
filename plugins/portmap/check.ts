import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { readLinkTowards, routesLocalnet } from "#kernel/localnet.ts";
import { formatIp } from "#net/ip.ts";
import type { PluginHost } from "#plugins/context.ts";
import { referenceRules } from "#plugins/reference-rules.ts";
import { describeAttachment } from "./attachment.ts";
import { parsePortmapConfig } from "./config.ts";
import { decodeMade, type Made } from "./made.ts";
import { readRoutedFamilies } from "./routed.ts";
import { ruleProblems } from "./rules.ts";

/** @throws {CniError} 999 with everything that is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const config = parsePortmapConfig(request.config);
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const { prevResult } = request;
  const record = host.journal.read(key, "portmap");
  const made = decodeMade(record);
  const routedFamilies = made
    ? made.routed.map(({ container }) => container.family)
    : await readRoutedFamilies(prevResult, host);
  const attachment = describeAttachment({ config, key, prevResult, routedFamilies });
  const ofRules = await ruleProblems(attachment, key, host);
  // Without a record it may be the reference plugin's, with its rules.
  const isTheirs =
    !record && ofRules.length > 0 && (await (await referenceRules(host, request.environment)).hasPorts(key));
  const problems = [...(isTheirs ? [] : ofRules), ...localnetProblems(attachment, host)];
  if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
}

function localnetProblems({ hairpin }: Made, host: PluginHost): readonly string[] {
  const { namespace } = host.kernel;
  return hairpin.flatMap(({ address }) => {
    if (address.family === 6) return [];
    const link = readLinkTowards(namespace, address);
    if (!link) return [`there is no route to ${formatIp(address)}`];
    if (routesLocalnet(namespace, link)) return [];
    return [`route_localnet of ${JSON.stringify(link.name)} is off, so that 127.0.0.1 can't be used`];
  });
}
