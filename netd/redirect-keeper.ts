import { closeSync } from "node:fs";
import { NamespaceGone, openNamespace } from "#dns-resolver/namespace.ts";
import type { NameEntry } from "#dns-resolver/registry.ts";
import type { Log } from "#machine/log.ts";
import { addResolverRedirect, hasResolverRedirect, rulesetNumber } from "#nftables/resolver-redirect.ts";

/** In one tick: a tenth of a millisecond for each at most, so that no call waits for it. */
const perTick = 50;

export interface RedirectKeeperOptions {
  /** One attachment of each container that has names. */
  readonly containers: () => Iterator<NameEntry>;
  readonly log: Log;
}

/**
 * Puts back what leads a container to the resolver where the container itself has taken it away, as `nft flush ruleset`
 * in one that has a firewall of its own. Asks for the number of each container's ruleset in turn, which costs a socket,
 * and looks at the rules only where that is another.
 */
export class RedirectKeeper {
  readonly #options: RedirectKeeperOptions;
  #cursor: Iterator<NameEntry> | undefined;
  /** By namespace, as of the last look; and those of this round. */
  #numbers = new Map<string, number>();
  #next = new Map<string, number>();

  constructor(options: RedirectKeeperOptions) {
    this.#options = options;
  }

  /** To be called about every second. Never throws. */
  tick(): void {
    this.#cursor ??= this.#options.containers();
    for (let count = 0; count < perTick; count++) {
      const { value, done } = this.#cursor.next();
      if (done === true) {
        this.#cursor = undefined;
        this.#numbers = this.#next;
        this.#next = new Map();
        return;
      }
      this.#look(value);
    }
  }

  #look(entry: NameEntry): void {
    const { netns, port, containerId } = entry;
    const { log } = this.#options;
    let namespace = -1;
    try {
      namespace = openNamespace(netns);
      const place = `${netns.dev}:${netns.ino}`;
      const number = rulesetNumber(namespace);
      if (this.#numbers.get(place) !== number && !hasResolverRedirect(namespace, port)) {
        addResolverRedirect(namespace, port);
        log.info("a container has taken its rules for names away; they are back", { containerId });
        // The number is another one now, which the next round will find, and look once more.
      }
      this.#next.set(place, number);
    } catch (error) {
      if (error instanceof NamespaceGone) return;
      log.debug("cannot look at a container's rules for names", { containerId, error: String(error) });
    } finally {
      if (namespace >= 0) closeSync(namespace);
    }
  }
}
