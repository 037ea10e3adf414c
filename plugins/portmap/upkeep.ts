import { publishedElements } from "#nftables/publish.ts";
import { needsNothing, type Upkeep } from "#plugins/upkeep.ts";
import { forgetFlowsBefore } from "./flows.ts";
import { decodeMade } from "./made.ts";
import { addOwnRules, hasOwnRules, mappedPorts, missingOwnRules, ownerOf, sourceElements } from "./rules.ts";

/** What firewalls and their reloads take away of this plugin's attachments, and how it is put back. */
export const upkeep: Upkeep = {
  needs(record) {
    const made = decodeMade(record);
    if (!made) return needsNothing;
    const owner = ownerOf(record.key);
    return {
      elements: [...sourceElements(made, record.key), ...publishedElements(mappedPorts(made), owner)],
      rules: hasOwnRules(made),
    };
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
