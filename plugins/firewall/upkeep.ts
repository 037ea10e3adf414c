import { needsNothing, type Upkeep } from "#plugins/upkeep.ts";
import { FirewalldError } from "./firewalld.ts";
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
    if (!made) return [];
    try {
      return await missingOwnRules({ key: record.key, made, host });
    } catch (error) {
      // It lets pass what it does not know: nothing is missing before it runs again, which the watch notices.
      if (error instanceof FirewalldError && !error.isRunning) return [];
      throw error;
    }
  },
  async restoreRules(record, host) {
    const made = decodeMade(record);
    if (made) await addOwnRules({ key: record.key, made, host });
  },
};
