import type { IpAddress } from "#net/ip.ts";

/** A packet that the suite lets pass, as far as it is known: for the question whether another firewall does, too. */
export interface Packet {
  readonly hook: "prerouting" | "input" | "forward";
  readonly family: 4 | 6;
  /** Interfaces by name; undefined where it may be any but the networks' own. */
  readonly inInterface: string | undefined;
  readonly outInterface: string | undefined;
  readonly source: IpAddress | undefined;
  readonly destination: IpAddress | undefined;
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly destinationPort: number | undefined;
  readonly state: "new" | "established";
  /** Its destination is another than the one it was sent to: it has come for a published port. */
  readonly isTranslated: boolean;
  /** Its destination, as it is now, is an address of the host. */
  readonly isForHost: boolean;
}

/** Whether something holds; undefined where that is not known. */
export type Truth = boolean | undefined;

export function not(truth: Truth): Truth {
  return truth === undefined ? undefined : !truth;
}

/** False where one of them is; true where all are. */
export function all(truths: readonly Truth[]): Truth {
  if (truths.includes(false)) return false;
  return truths.includes(undefined) ? undefined : true;
}

/** True where one of them is; false where none can be. */
export function any(truths: readonly Truth[]): Truth {
  if (truths.includes(true)) return true;
  return truths.includes(undefined) ? undefined : false;
}
