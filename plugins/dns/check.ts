import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { keyText } from "#dns-resolver/registry.ts";
import { hasResolverRedirect } from "#nftables/resolver-redirect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeAttachment, resolverAddress } from "./attachment.ts";
import { parseDnsConfig } from "./config.ts";

/** @throws {CniError} 999 with everything that is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const config = parseDnsConfig(request.config);
  const { prevResult } = request;
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const { entry: expected } = describeAttachment({ config, key, request, prevResult });
  await host.names.probe();
  const found = host.names.inNamespace(request.netns).find((each) => keyText(each) === keyText(key));
  if (!found) throw problem(["its names are not registered"]);
  const problems: string[] = [];
  for (const field of ["names", "addresses"] as const) {
    const missing = expected[field].filter((each) => !found[field].includes(each));
    if (missing.length > 0) problems.push(`the resolver does not know the ${field} ${missing.join(", ")}`);
  }
  const namespace = host.kernel.open(request.netns);
  try {
    if (!hasResolverRedirect(namespace.fd, found.port)) {
      problems.push(`table ip netctl_dns in the container does not lead to port ${found.port}`);
    }
  } finally {
    namespace.close();
  }
  if (!prevResult.dns.nameservers?.includes(resolverAddress)) {
    problems.push(`the result does not name ${resolverAddress}`);
  }
  if (problems.length > 0) throw problem(problems);
}

function problem(problems: readonly string[]): CniError {
  return new CniError(ErrorCode.Internal, problems.join("; "));
}
