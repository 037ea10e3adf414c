import { readLink, removeLink } from "#kernel/link.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { isOwn, removeContainerLink } from "#plugins/container-link.ts";
import type { PluginHost } from "#plugins/context.ts";
import { Attempts, type Departing } from "#plugins/departing.ts";
import { hostVethName } from "#plugins/host-veth.ts";
import { removeAllElements } from "#plugins/masquerade.ts";
import { removeReferenceRules } from "#plugins/reference-rules.ts";
import { hostVethOf } from "./host-end.ts";
import type { Made } from "./made.ts";
import { ownedSets, removeMasquerade } from "./masquerade.ts";

/** Takes the veth and the rules away. @throws {CniError} with all that went wrong */
export async function removeAttachment(
  departing: Departing,
  made: Made | undefined,
  host: PluginHost,
): Promise<void> {
  const { key, release, record } = departing;
  const { environment } = release;
  const attempts = new Attempts();
  const { namespace } = host.kernel;
  const name = made?.hostVeth ?? hostVethName(key);
  await Promise.all([
    attempts.attempt(async () => {
      await removeLink(namespace, name);
      if (!made) await removeForeignLink(departing, host);
    }),
    attempts.attempt(async () => {
      if (made) await removeMasquerade(made, { key, host, environment });
      else if (record) await removeAllElements(host, key, ownedSets);
      else await removeReferenceRules(departing, host, (rules) => rules.removeMasquerade(key));
    }),
  ]);
  crashPoint("links-and-rules-removed");
  attempts.throwIfAny(key);
}

/** The veth of an attachment that has no record, by either end, if the result that the runtime kept names it. */
async function removeForeignLink(departing: Departing, host: PluginHost): Promise<void> {
  if (await removeContainerLink(departing, host, "veth")) return;
  const { prevResult } = departing;
  const name = prevResult && isOwn(departing, host) ? hostVethOf(prevResult) : undefined;
  if (name === undefined || !prevResult) return;
  const link = readLink(host.kernel.namespace, name);
  // The reference plugin draws names; another attachment may have drawn this one by now, but not with its address.
  const mac = prevResult.interfaces.find((each) => each.name === name && !each.sandbox)?.mac;
  if (link?.kind === "veth" && mac !== undefined && link.mac === mac.toLowerCase())
    await removeLink(host.kernel.namespace, link.ifindex);
}
