import { listLinks } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readU32 } from "#netlink/byte-order.ts";
import { type Message, messagesIn } from "#netlink/message.ts";
import { NotificationWatch } from "#netlink/notification-watch.ts";
import { RouteGroup, RouteMessage } from "#netlink/route/constant.ts";
import { Protocol } from "#netlink/socket.ts";
import { type Commits, RulesetWatch } from "#nftables/ruleset-watch.ts";
import { isOverlayDeviceName } from "./identity.ts";
import { placeOfLoss, routeProtocol } from "./kernel-entry.ts";

/** Whoever takes much away tells of each piece: one look for all that comes within this time. */
const settleMs = 50;
/** A change of the rules of which the kernel tells nothing is noticed at the second question. */
const askingMs = 3000;

export interface KernelWatchOptions {
  /** The host's. Only needed while opening, and to read its links. */
  readonly namespace: NetworkNamespace;
  readonly nftables: Commits;
  /** Whether something of the overlay's should stand there: `Key.place`. */
  readonly isWanted: (place: string) => boolean;
  /** Something of the overlay's may be gone, or the kernel has told more than could be kept. */
  readonly changed: () => void;
  /** Somebody has taken away something of ours out of the rules: `changed` follows. */
  readonly rulesChanged: () => void;
  /** An address of the host has come or gone. */
  readonly addressChanged: () => void;
  /** Nothing more, or not everything, will be noticed. */
  readonly ended: (error: unknown) => void;
}

/** Tells when somebody takes away what the overlay has made in the kernel: devices, routes, neighbours, rules. */
export class KernelWatch {
  readonly #options: KernelWatchOptions;
  readonly #watches: { close(): void }[] = [];
  /** ifindexes of the overlay's devices. */
  #devices: ReadonlySet<number> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #asking: NodeJS.Timeout | undefined;

  constructor(options: KernelWatchOptions) {
    this.#options = options;
  }

  /** @throws {NetlinkError} then nothing is noticed */
  start(): void {
    const { namespace, nftables, ended } = this.#options;
    this.refresh();
    try {
      this.#watches.push(
        new NotificationWatch({
          protocol: Protocol.Route,
          groups: Object.values(RouteGroup),
          namespaceFd: namespace.fd,
          onNews: (bytes) => this.#take(bytes),
          onLoss: () => {
            this.#soon();
            this.#options.addressChanged();
          },
          onEnd: ended,
        }),
      );
      const rules = new RulesetWatch({
        namespaceFd: namespace.fd,
        nftables,
        onChange: () => this.#doubtRules(),
        onEnd: ended,
      });
      this.#watches.push(rules);
      this.#asking = setInterval(() => this.#askFor(rules), askingMs).unref();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** To be called when devices were made. */
  refresh(): void {
    this.#devices = new Set(
      listLinks(this.#options.namespace).flatMap(({ name, ifindex }) =>
        isOverlayDeviceName(name) ? [ifindex] : [],
      ),
    );
  }

  close(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#asking);
    for (const watch of this.#watches.splice(0)) watch.close();
  }

  /** What the kernel has told to nobody. */
  #askFor(rules: RulesetWatch): void {
    try {
      if (rules.hasMissed(this.#options.nftables.generation())) this.#doubtRules();
    } catch {
      // It has no nftables, say, which others complain of.
    }
  }

  #doubtRules(): void {
    this.#options.rulesChanged();
    this.#soon();
  }

  #take(bytes: Uint8Array): void {
    let messages: readonly Message[];
    try {
      messages = messagesIn(bytes);
    } catch {
      this.#soon();
      return;
    }
    if (messages.some((message) => this.#isLoss(message))) this.#soon();
    if (messages.some(({ type }) => type === RouteMessage.NewAddress || type === RouteMessage.DeleteAddress))
      this.#options.addressChanged();
  }

  /**
   * What is added is mostly our own, as is what goes that nobody wants any more; a device that was changed may be none
   * of ours from now on.
   */
  #isLoss(message: Message): boolean {
    const { type, body } = message;
    switch (type) {
      case RouteMessage.DeleteRoute:
        // rtmsg.rtm_protocol: include/uapi/linux/rtnetlink.h
        return body[5] === routeProtocol && this.#isWanted(message);
      case RouteMessage.DeleteNeighbor:
        return this.#isOurs(body) && this.#isWanted(message);
      case RouteMessage.NewLink:
      case RouteMessage.DeleteLink:
      case RouteMessage.DeleteAddress:
        return this.#isOurs(body);
    }
    return false;
  }

  /** The index stands at the same place in ifinfomsg, ndmsg and ifaddrmsg. */
  #isOurs(body: Uint8Array): boolean {
    return body.length >= 8 && this.#devices.has(readU32(body, 4));
  }

  #isWanted(message: Message): boolean {
    try {
      const place = placeOfLoss(message);
      return place === undefined || this.#options.isWanted(place);
    } catch {
      return true;
    }
  }

  #soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#options.changed();
    }, settleMs).unref();
  }
}
