/**
 * An action that is to happen after each of its causes, but never twice at once: causes that come while it runs lead to
 * one more run.
 */
export class Recurrent {
  readonly #action: () => Promise<void>;
  #running: Promise<void> | undefined;
  #isDue = false;
  #isClosed = false;

  /** @param action never rejects */
  constructor(action: () => Promise<void>) {
    this.#action = action;
  }

  request(): void {
    if (this.#isClosed) return;
    this.#isDue = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Ends when the action does that runs now. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#isDue && !this.#isClosed) {
      this.#isDue = false;
      await this.#action();
    }
  }
}
