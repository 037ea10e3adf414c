import { readLink } from "#kernel/link.ts";
import { iptablesOf } from "#plugins/masquerade.ts";
import { needsNothing, type Upkeep } from "#plugins/upkeep.ts";
import { decodeMade } from "./made.ts";
import { attachmentElements, iptablesAttachment } from "./masquerade.ts";

/** What firewalls and their reloads take away of this plugin's attachments, and how it is put back. */
export const upkeep: Upkeep = {
  needs({ made, key }) {
    const own = decodeMade(made);
    if (!own) return needsNothing;
    return { elements: attachmentElements(own, key), rules: iptablesAttachment(own, key) !== undefined };
  },
  async missingRules({ made, key }, host) {
    const own = decodeMade(made);
    const attachment = own && iptablesAttachment(own, key);
    return attachment ? await (await iptablesOf(host, {})).missing(attachment) : [];
  },
  async restoreRules({ made, key }, host) {
    const own = decodeMade(made);
    const attachment = own && iptablesAttachment(own, key);
    if (attachment) await (await iptablesOf(host, {})).add(attachment);
  },
  linkProblems({ made }, host) {
    const own = decodeMade(made);
    if (!own) return [];
    const link = readLink(host.kernel.namespace, own.hostVeth);
    const name = JSON.stringify(own.hostVeth);
    if (!link) return [`veth ${name} is gone`];
    return link.up ? [] : [`veth ${name} is down`];
  },
};
