import { CniError, ErrorCode } from "#cni/error.ts";
import type { Link } from "#kernel/link.ts";

/** An interface takes no longer packets than the one it stands on. @throws {CniError} 7 */
export function refuseMtuAbove(master: Link, mtu: number | undefined, what: string): void {
  if (mtu === undefined || mtu <= master.mtu) return;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use ${what}: "mtu" ${mtu}: invalid MTU ${mtu}, must be [0, master MTU(${master.mtu})]`,
  );
}
