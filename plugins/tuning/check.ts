import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { readLinkSettings } from "#kernel/link-settings.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readSysctl, SysctlError } from "#kernel/sysctl.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Attachment, describeAttachment, fieldNames, leavesLink, linkFields } from "./attachment.ts";
import { parseTuningConfig } from "./config.ts";
import { equalSysctlValues } from "./sysctl-key.ts";

/** @throws {CniError} 999 with everything that is not as the configuration has it */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const config = parseTuningConfig(request.config, request.args);
  const attachment = describeAttachment(config, request.ifName);
  using namespace = host.kernel.open(request.netns);
  const problems = [...sysctlProblems(attachment, namespace), ...linkProblems(attachment, namespace)];
  if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
}

function sysctlProblems({ sysctls }: Attachment, namespace: NetworkNamespace): readonly string[] {
  return sysctls.flatMap(({ key, value, text }) => {
    try {
      const present = readSysctl(namespace, key);
      if (present !== undefined && equalSysctlValues(value, present)) return [];
      return [`sysctl ${text} is ${present === undefined ? "not there" : `${present}, not ${value}`}`];
    } catch (error) {
      // One that can only be written.
      if (error instanceof SysctlError && (error.code === "EACCES" || error.code === "EPERM")) return [];
      throw error;
    }
  });
}

function linkProblems({ ifName, link }: Attachment, namespace: NetworkNamespace): readonly string[] {
  if (leavesLink(link)) return [];
  const present = readLinkSettings(namespace, parseIfName(ifName));
  if (!present) return [`there is no interface ${JSON.stringify(ifName)}`];
  return linkFields
    .filter((field) => link[field] !== undefined && link[field] !== present[field])
    .map(
      (field) =>
        `${fieldNames[field]} of ${JSON.stringify(ifName)} is ${String(present[field])}, not ${String(link[field])}`,
    );
}
