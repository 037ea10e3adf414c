import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { arrivingProblems, leavingProblems } from "#kernel/shaping.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Attachment, describeAttachment } from "./attachment.ts";
import { parseBandwidthConfig } from "./config.ts";
import { decodeMade } from "./made.ts";
import { ifbNames } from "./names.ts";
import { findPlace } from "./place.ts";

/** @throws {CniError} 999 with everything that is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const config = parseBandwidthConfig(request.config);
  if (!config.ingress && !config.egress) return;
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  using container = host.kernel.open(request.netns);
  const { place, namespace, device } = findPlace(host.kernel, container, request.ifName);
  const attachment = describeAttachment({ config, key, place, device });
  const recorded = decodeMade(host.journal.read(key, "bandwidth"))?.arriving?.ifb;
  const problems = [
    ...problemsOfLeaving(namespace, attachment),
    ...problemsOfArriving(namespace, attachment, recorded),
  ];
  if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
}

function problemsOfLeaving(namespace: NetworkNamespace, { device, leaving }: Attachment): readonly string[] {
  if (!leaving) return [];
  const { shape, selection } = leaving;
  return leavingProblems(namespace, device.ifindex, shape, selection).map(
    (problem) => `${device.name} ${problem}`,
  );
}

function problemsOfArriving(
  namespace: NetworkNamespace,
  { key, device, arriving }: Attachment,
  recorded: string | undefined,
): readonly string[] {
  if (!arriving) return [];
  const name = ifbNames(key).find((each) => each === recorded) ?? ifbNames(key)[0];
  const ifb = readLink(namespace, name);
  if (ifb?.kind !== "ifb") return [`there is no ifb ${name}`];
  const { shape, selection } = arriving;
  return [
    ...(ifb.up ? [] : [`${name} is down`]),
    ...leavingProblems(namespace, ifb.ifindex, shape, { ...selection, subnets: [] }).map(
      (problem) => `${name} ${problem}`,
    ),
    ...arrivingProblems(namespace, device.ifindex, ifb.ifindex, selection).map(
      (problem) => `${device.name} ${problem}`,
    ),
  ];
}
