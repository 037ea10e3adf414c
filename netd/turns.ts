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
}

interface Waiting {
  readonly request: TurnRequest;
  readonly start: () => void;
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

  /** Runs `work` when its turn comes. */
  async take<T>(request: TurnRequest, work: () => Promise<T>): Promise<T> {
    const list = this.#byNetwork.get(request.network) ?? [];
    this.#byNetwork.set(request.network, list);
    if (request.kind === "DEL") {
      for (const other of list) {
        if (other.request.kind === "ADD" && other.request.attachment === request.attachment)
          other.request.cancel();
      }
    }
    let waiting: Waiting | undefined;
    const turn = new Promise<void>((resolve) => {
      waiting = { request, start: resolve, running: false };
      list.push(waiting);
    });
    this.#startThoseThatMay(list);
    await turn;
    try {
      return await work();
    } finally {
      if (waiting !== undefined) list.splice(list.indexOf(waiting), 1);
      if (list.length === 0) this.#byNetwork.delete(request.network);
      else this.#startThoseThatMay(list);
    }
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
