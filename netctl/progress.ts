import type { WriteStream } from "node:tty";

/** Before that nobody wonders. */
const patienceMs = 1000;

/** What `log-update` gives: a part of the terminal that is written over. */
interface Line {
  (text: string): void;
  clear(): void;
}

/**
 * One line at the end of a terminal that says what is under way and for how long, from the first second on. It makes room
 * for whatever else is printed, and is gone in the end.
 */
export class Progress {
  readonly #stream: WriteStream;
  #text: string | undefined;
  #sinceMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #line: Line | undefined;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  /** @param text what is under way from now on; undefined: nothing */
  show(text: string | undefined): void {
    if (text === undefined) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      this.hide();
    } else if (this.#timer === undefined) {
      this.#sinceMs = performance.now();
      this.#timer = setInterval(() => void this.#draw(), patienceMs);
      this.#timer.unref();
    }
    this.#text = text;
  }

  /** Until the next second: something else is about to be printed. */
  hide(): void {
    this.#line?.clear();
  }

  async #draw(): Promise<void> {
    // Of no use to most commands, which are done by now.
    const { createLogUpdate } = await import("log-update");
    this.#line ??= createLogUpdate(this.#stream, { showCursor: true });
    // A serial line may not know how large it is.
    const { columns, rows } = this.#stream;
    if (this.#text === undefined || !(columns > 0 && rows > 0)) return;
    const seconds = Math.round((performance.now() - this.#sinceMs) / 1000);
    this.#line(`${this.#text} … ${seconds} s`);
  }
}
