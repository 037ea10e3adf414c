import { needsNothing, type Upkeep } from "#plugins/upkeep.ts";
import { decodeMade } from "./made.ts";
import { addOwnRules, elementsOf, missingOwnRules } from "./rules.ts";

/** What other firewalls and their reloads take away of this plugin's attachments, and how it is put back. */
export const upkeep: Upkeep = {
  needs(record) {
    const made = decodeMade(record);
    if (!made) return needsNothing;
    return { elements: elementsOf(made, record.key), rules: made.backend !== "nftables" };
  },
  async missingRules(record, host) {
    const made = decodeMade(record);
    return made ? await missingOwnRules({ key: record.key, made, environment: {}, host }) : [];
  },
  async restoreRules(record, host) {
    const made = decodeMade(record);
    if (made) await addOwnRules({ key: record.key, made, environment: {}, host });
  },
};
