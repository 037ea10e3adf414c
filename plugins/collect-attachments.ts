import type { GcRequest } from "#cni/plugin.ts";
import { IpamDelegate } from "#ipam/delegate.ts";
import { collectRecords } from "#journal/collect.ts";
import type { PluginHost } from "./context.ts";
import { Attempts, type Departing, describeRecord } from "./departing.ts";

type Valid = NonNullable<GcRequest["validAttachments"]>;

/**
 * GC of an interface plugin: removes what belongs to attachments of the network that are no longer valid, then asks
 * the IPAM plugin to do so. Goes on after an error.
 * @param work.sweep what else of the network may be left without a record
 * @throws one error for all that went wrong
 */
export async function collectAttachments(
  request: GcRequest,
  host: PluginHost,
  work: {
    readonly plugin: string;
    readonly remove: (departing: Departing) => Promise<void>;
    readonly sweep?: readonly ((network: string, valid: Valid) => Promise<void>)[];
  },
): Promise<void> {
  const attempts = new Attempts();
  const { validAttachments: valid } = request;
  const network = request.config.name;
  if (valid) {
    await attempts.attempt(() =>
      collectRecords(host.journal, { network, plugin: work.plugin, valid }, (record) =>
        work.remove(describeRecord(record, request)),
      ),
    );
    for (const step of work.sweep ?? []) await attempts.attempt(() => step(network, valid));
  }
  await attempts.attempt(() => new IpamDelegate(host.runner).gc(request));
  const { errors } = attempts;
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) {
    throw new AggregateError(
      errors,
      errors.map((error) => (error instanceof Error ? error.message : String(error))).join("; "),
    );
  }
}
