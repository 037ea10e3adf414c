import type { GcRequest } from "#cni/plugin.ts";
import { collectRecords } from "#journal/collect.ts";
import { retainPolicies } from "#nftables/device-policy.ts";
import { admittedSets, ingressPolicySets } from "#nftables/ingress-policy.ts";
import { removeOrphans } from "#nftables/orphan.ts";
import type { PluginHost } from "#plugins/context.ts";
import { decodeMade } from "./made.ts";
import { alone } from "./policy-turn.ts";
import { releaseAttachment } from "./release.ts";

/** Removes what belongs to attachments of this network that are no longer valid; goes on after an error. */
export async function gc(request: GcRequest, host: PluginHost): Promise<void> {
  const { validAttachments: valid } = request;
  if (!valid) return;
  const network = request.config.name;
  const steps = [
    () =>
      collectRecords(host.journal, { network, plugin: "firewall", valid }, ({ key }) =>
        releaseAttachment({ key, host }),
      ),
    // After the loss of the journal.
    () => removeOrphans(host.nftables, admittedSets, { network, valid }),
    () => alone(host, () => retainPolicies(host.nftables, ingressPolicySets, () => devicesInUse(host))),
  ];
  const errors: unknown[] = [];
  for (const step of steps) {
    await step().catch((error: unknown) => errors.push(error));
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, "Cannot remove all stale firewall rules");
}

/** Undefined where an ADD or a DEL is under way. */
function devicesInUse({ journal }: PluginHost): ReadonlySet<string> | undefined {
  const devices = new Set<string>();
  for (const record of journal.list()) {
    if (record.plugin !== "firewall") continue;
    if (record.phase !== "done") return undefined;
    const device = decodeMade(record)?.device;
    if (device) devices.add(device);
  }
  return devices;
}
