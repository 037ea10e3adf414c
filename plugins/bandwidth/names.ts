import { createHash } from "node:crypto";
import type { AttachmentKey } from "#journal/record.ts";
import { type IfName, maxIfNameBytes, parseIfName } from "#net/ifname.ts";

const prefix = "bwp";

/**
 * What the link for the other direction may be called: as the reference calls it, after network and container; or, for
 * a container's second interface in that network, which the reference has no name for, after that as well.
 */
export function ifbNames({ network, containerId, ifName }: AttachmentKey): readonly [IfName, IfName] {
  return [hashed(`${network}${containerId}`), hashed(`${network}${containerId}${ifName}`)];
}

function hashed(text: string): IfName {
  const digits = createHash("sha512").update(text).digest("hex");
  return parseIfName(`${prefix}${digits}`.slice(0, maxIfNameBytes));
}
