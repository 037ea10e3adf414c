import { deleteLinkSoon, deleteLinksSoon } from "#netlink/route/link-deletion.ts";

interface Doomed {
  readonly ifindex: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Deletes links of one namespace. The kernel deletes one after the other and waits for its readers with each, so those
 * that are asked for while it does are collected and then deleted as a group, for little more than the price of one.
 */
export class LinkReaper {
  readonly #namespaceFd: () => number;
  #waiting: Doomed[] = [];
  #isBusy = false;

  /** @param namespaceFd asked for with each deletion, which needs it open until it has begun */
  constructor(namespaceFd: () => number) {
    this.#namespaceFd = namespaceFd;
  }

  /**
   * Settles once the link is gone for everybody.
   * @param kind of the link, as its summary has it: what has none is hardware or loopback, which the kernel refuses
   * @throws {NetlinkError} EOPNOTSUPP; ENODEV, or nothing, where it is gone already
   */
  async delete(ifindex: number, kind: string | undefined): Promise<void> {
    // By itself, so that the others are not refused with it.
    if (kind === undefined)
      return await deleteLinkSoon({ namespaceFd: this.#namespaceFd(), target: ifindex });
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ ifindex, resolve, reject });
      if (!this.#isBusy) void this.#reap();
    });
  }

  async #reap(): Promise<void> {
    this.#isBusy = true;
    while (this.#waiting.length > 0) {
      const doomed = this.#waiting;
      this.#waiting = [];
      if (doomed.length === 1 || !(await this.#deleteTogether(doomed))) await this.#deleteEach(doomed);
    }
    this.#isBusy = false;
  }

  /** False where the kernel refuses one of them, and so all. */
  async #deleteTogether(doomed: readonly Doomed[]): Promise<boolean> {
    try {
      const ifindexes = doomed.map(({ ifindex }) => ifindex);
      await deleteLinksSoon({ namespaceFd: this.#namespaceFd(), ifindexes });
    } catch {
      return false;
    }
    for (const { resolve } of doomed) resolve();
    return true;
  }

  async #deleteEach(doomed: readonly Doomed[]): Promise<void> {
    for (const { ifindex, resolve, reject } of doomed) {
      try {
        await deleteLinkSoon({ namespaceFd: this.#namespaceFd(), target: ifindex });
        resolve();
      } catch (error) {
        reject(error);
      }
    }
  }
}
