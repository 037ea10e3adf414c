import { crashPoint } from "#machine/crash-point.ts";
import { listLinks } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { ensureSysctl, readSysctl, SysctlError, writeSysctl } from "./sysctl.ts";
import type { Undo } from "./undo.ts";

/** The switch of each family: IPv6 has none for the host but this one, for all links that are and will be. */
const switches = { 4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding" } as const;

/** True if the host forwards packets of this family; false also where the kernel lacks the family. */
export function forwards(namespace: NetworkNamespace, family: 4 | 6): boolean {
  return readSysctl(namespace, switches[family]) === "1";
}

/**
 * Lets the host forward packets of these families. Like `sysctl -w net.ipv4.ip_forward=1`.
 *
 * A host that forwards IPv6 no longer listens to router advertisements and so loses its own default route, unless a
 * link's accept_ra is 2: links that listen are told to go on.
 * @param undo gets what takes the changes back
 * @throws {SysctlError}
 */
export function ensureForwarding(
  namespace: NetworkNamespace,
  families: readonly (4 | 6)[],
  undo: Undo,
): void {
  for (const family of families) {
    if (forwards(namespace, family)) continue;
    if (family === 6) keepListening(namespace, undo);
    set(namespace, switches[family], 1, undo);
  }
}

/** accept_ra: 1 listens unless forwarding, 2 listens always (Documentation/networking/ip-sysctl.rst). */
function keepListening(namespace: NetworkNamespace, undo: Undo): void {
  for (const { name } of listLinks(namespace)) {
    const key = `net/ipv6/conf/${name}/accept_ra`;
    if (name !== "lo" && readSysctl(namespace, key) === "1") set(namespace, key, 2, undo);
  }
}

function set(namespace: NetworkNamespace, key: string, value: number, undo: Undo): void {
  const before = ensureSysctl(namespace, key, value);
  if (before !== undefined) undo.push(`sysctl ${key}`, () => writeSysctl(namespace, key, before));
  crashPoint("forwarding-set");
}

/** True if the host forwards packets of this family, or can be told to. Changes nothing. */
export function canForward(namespace: NetworkNamespace, family: 4 | 6): boolean {
  if (forwards(namespace, family)) return true;
  try {
    // What stands there, again: the kernel does nothing, but says whether it would.
    const key = switches[family];
    const value = readSysctl(namespace, key);
    if (value === undefined) return false;
    writeSysctl(namespace, key, value);
    return true;
  } catch (error) {
    if (error instanceof SysctlError) return false;
    throw error;
  }
}
