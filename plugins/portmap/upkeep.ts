import { publishedElements } from "#nftables/publish.ts";
import type { Upkeep } from "#plugins/upkeep.ts";
import { forgetFlowsBefore } from "./flows.ts";
import { decodeMade } from "./made.ts";
import { addOwnRules, mappedPorts, missingOwnRules, ownerOf, sourceElements } from "./rules.ts";

/** What firewalls and their reloads take away of this plugin's attachments, and how it is put back. */
export const upkeep: Upkeep = {
  elements(record) {
    const made = decodeMade(record);
    if (!made) return [];
    const owner = ownerOf(record.key);
    return [...sourceElements(made, record.key), ...publishedElements(mappedPorts(made), owner)];
  },
  async missingRules(record, host) {
    const made = decodeMade(record);
    return made ? await missingOwnRules(made, record.key, host) : [];
  },
  async restoreRules(record, host) {
    const made = decodeMade(record);
    if (made) await addOwnRules(made, record.key, host);
  },
  async restored(records, host) {
    await forgetFlowsBefore(
      records.flatMap((record) => decodeMade(record)?.published ?? []),
      host,
    );
  },
};
