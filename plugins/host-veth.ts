import { isDeepStrictEqual } from "node:util";
import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { readLink } from "#kernel/link.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";
import { intact } from "./departing.ts";

/**
 * The veth's end in the host: "veth" and 8 hex digits, as with the reference plugins, but derived, so that it can be
 * found again without any record. `attempt` gives another name where two attachments derive the same.
 */
export function hostVethName(key: AttachmentKey, attempt = 0): IfName {
  const words = [key.network, key.containerId, key.ifName, ...(attempt === 0 ? [] : [String(attempt)])];
  const hash = sha256Hex(JSON.stringify(words));
  return parseIfName(`veth${hash.slice(0, 8)}`);
}

const named = goObject({ hostVeth: v.string() });

/**
 * The name for a new attachment's veth. Another attachment may derive the same, one pair in 2^32: then another one. A
 * link of that name that nobody has recorded is a leftover of this very attachment, from before the journal was lost.
 */
export function freeHostVethName(key: AttachmentKey, host: PluginHost): IfName {
  const name = hostVethName(key);
  if (!readLink(host.kernel.namespace, name)) return name;
  for (const record of host.journal.each()) {
    const made = v.safeParse(named, intact(record)?.made);
    if (made.success && made.output.hostVeth === name && !isDeepStrictEqual(record.key, key))
      return hostVethName(key, 1);
  }
  return name;
}
