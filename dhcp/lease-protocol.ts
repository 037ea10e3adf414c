import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { LeaseFormat } from "./lease-store.ts";
import type { LeaseTimes } from "./lease-times.ts";
import type { Port } from "./port.ts";

/** What the keeper of leases has to know of one protocol. */
export interface LeaseProtocol<Identity, Lease extends { readonly times: LeaseTimes }> {
  /** For the log: "DHCP" */
  readonly name: string;
  readonly format: LeaseFormat<Identity, Lease>;
  /**
   * Whether servers can say if a lease is still good where the client is: asked when a keeper starts, and when the link
   * was down.
   */
  readonly canConfirm: boolean;
  /** Its addresses, for the log. */
  describe(lease: Lease): string;
  /** @returns undefined where nothing can be asked through the link at this moment */
  openPort(namespace: NetworkNamespace, link: Link): Port | undefined;
  /** Asks the server (renew) or all servers for more time, or whether the lease is good (confirm). One try. */
  extend(port: Port, identity: Identity, lease: Lease, question: Question): Promise<Extension<Lease>>;
  /**
   * How long to wait before the next try of the same kind.
   * @param question.previousSeconds the pause before the try that was in vain; undefined after the first
   */
  pauseSeconds(
    times: LeaseTimes,
    question: { readonly now: number; readonly previousSeconds?: number },
  ): number;
  /** What is left of a lease of which a part has expired. */
  remaining(lease: Lease, now: number): Lease | undefined;
  /** Takes from the link what `before` had and `after` has not, since it may be another's by now. */
  withdraw(
    namespace: NetworkNamespace,
    link: Link,
    change: { readonly before: Lease; readonly after: Lease | undefined; readonly isShared: boolean },
  ): void;
}

export interface Question {
  readonly mode: "confirm" | "renew" | "rebind";
  /** Seconds since the machine's start. */
  readonly now: () => number;
  /** Seconds since the first try of this kind; 0 for that one. */
  readonly elapsedSeconds: number;
}

export type Extension<Lease> =
  | { readonly outcome: "extended"; readonly lease: Lease }
  /** It is good, with the times that it has. */
  | { readonly outcome: "confirmed" }
  | { readonly outcome: "lost"; readonly why: string }
  /** Nobody has answered, or nothing that decides. */
  | { readonly outcome: "silence"; readonly why: string };
