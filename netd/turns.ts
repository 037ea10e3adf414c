/**
 * Who may act when. Requests for one attachment run one after the other in the order they came; different
 * attachments run at the same time; a GC of a network runs alone in it. A DEL cancels the ADD of its attachment
 * that is running, waits until that has rolled itself back, and so always wins.
 */

export type TurnKind = "ADD" | "DEL" | "CHECK" | "GC";

export interface TurnRequest {
  readonly network: string;
  /** Undefined for a GC, which concerns every attachment of the network. */
  readonly attachment?: string | undefined;
  readonly kind: TurnKind;
  /** Called when a DEL wants this request's place; only an ADD is asked. */
  readonly cancel: () => void;
  /** Gives up waiting; what runs already is told by other means. */
  readonly signal?: AbortSignal | undefined;
}

interface Waiting {
  readonly request: TurnRequest;
  start: () => void;
  running: boolean;
}

export class Turns {
  /** By network, in the order they came: few at a time, so a scan of one network's requests is cheap. */
  readonly #byNetwork = new Map<string, Waiting[]>();

  /** Requests that run or wait, over all networks. */
  get size(): number {
    let size = 0;
    for (const list of this.#byNetwork.values()) size += list.length;
    return size;
  }

  /**
   * Runs `work` when its turn comes.
   * @throws the signal's reason where that comes first
   */
  async take<T>(request: TurnRequest, work: () => Promise<T>): Promise<T> {
    const list = this.#byNetwork.get(request.network) ?? [];
    this.#byNetwork.set(request.network, list);
    if (request.kind === "DEL") {
      for (const other of list) {
        if (other.request.kind === "ADD" && other.request.attachment === request.attachment)
          other.request.cancel();
      }
    }
    const waiting: Waiting = { request, start: () => {}, running: false };
    const turn = this.#wait(waiting);
    list.push(waiting);
    this.#startThoseThatMay(list);
    try {
      await turn;
      return await work();
    } finally {
      list.splice(list.indexOf(waiting), 1);
      if (list.length > 0) this.#startThoseThatMay(list);
      else if (this.#byNetwork.get(request.network) === list) this.#byNetwork.delete(request.network);
    }
  }

  #wait(waiting: Waiting): Promise<void> {
    const { signal } = waiting.request;
    return new Promise((resolve, reject) => {
      // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- the reason is whatever the caller made it
      const giveUp = () => reject(signal?.reason);
      waiting.start = () => {
        signal?.removeEventListener("abort", giveUp);
        resolve();
      };
      if (signal?.aborted) giveUp();
      else signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  #startThoseThatMay(list: readonly Waiting[]): void {
    const seen = new Set<string>();
    let first = true;
    for (const waiting of list) {
      const { attachment } = waiting.request;
      if (attachment === undefined) {
        if (first && !waiting.running) this.#start(waiting);
        return;
      }
      if (!waiting.running && !seen.has(attachment)) this.#start(waiting);
      seen.add(attachment);
      first = false;
    }
  }

  #start(waiting: Waiting): void {
    waiting.running = true;
    waiting.start();
  }
}
