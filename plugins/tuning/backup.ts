import { readFileSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import { emptyAsAbsent, int, mac } from "#cni/schema-values.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { errorCode } from "#machine/io-error.ts";
import type { Made } from "./made.ts";

/** What the reference plugin writes, in `<dataDir>/<containerID>_<ifname>.json`. */
const schema = goObject({
  mac: emptyAsAbsent(mac),
  promisc: v.optional(v.boolean()),
  mtu: v.optional(int({ min: 0 })),
  allmulti: v.optional(v.boolean()),
  txQLen: v.optional(int({ min: 0 })),
});

/**
 * The backup that the reference plugin of this name has left, for a container that it attached before it was replaced
 * by this one.
 */
export class ReferenceBackup {
  readonly #path: string;

  constructor(dataDir: string, { containerId, ifName }: AttachmentKey) {
    this.#path = join(dataDir, `${containerId}_${ifName}.json`);
  }

  /** How things were before; undefined where there is no backup that can be read. */
  read(): Made | undefined {
    try {
      const parsed = v.safeParse(schema, JSON.parse(readFileSync(this.#path, "utf8")));
      if (!parsed.success) return undefined;
      const { mac, promisc, mtu, allmulti, txQLen } = parsed.output;
      return {
        link: {
          mac,
          promiscuous: promisc,
          mtu: mtu || undefined,
          allMulticast: allmulti,
          txQueueLength: txQLen,
        },
        sysctls: [],
      };
    } catch {
      return undefined;
    }
  }

  /** Nothing happens if there is none. */
  remove(): void {
    try {
      unlinkSync(this.#path);
    } catch (error) {
      if (!["ENOENT", "ENOTDIR", "EROFS"].includes(errorCode(error) ?? "")) throw error;
    }
  }
}
