import { closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { Log } from "#machine/log.ts";
import { native } from "#native/addon.ts";
import { libDirectory } from "#native/lib-directory.ts";
import type { ResolverData } from "./main.ts";
import type { NumberedOrder, Order, Report } from "./messages.ts";
import { NameServiceError } from "./registry.ts";

const one = Buffer.alloc(8);
one.writeBigUInt64LE(1n);
/** V8's heap of the thread: 16 MiB of cached answers, 65,000 containers' names. Beyond that the thread starts anew. */
const resourceLimits = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 16 };

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The resolver's thread, seen from the one that has started it. */
export class ResolverThread {
  readonly #log: Log;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #waiting = new Map<number, Waiting>();
  #wakeFd: number;
  #number = 0;
  /** Settles when the thread has ended, however that was. */
  readonly ended: Promise<void>;

  constructor(log: Log) {
    this.#log = log;
    this.#wakeFd = native().eventFd();
    const { port1, port2 } = new MessageChannel();
    const data: ResolverData = { port: port2, wakeFd: this.#wakeFd };
    // It keeps netd's own heap small (native/launcher.c); a thread that allocates something for each question that it
    // forwards would do little but collect. Heaps that there are keep their size.
    setFlagsFromString("--no-optimize-for-size");
    this.#worker = new Worker(join(libDirectory(), "resolver.cjs"), {
      workerData: data,
      transferList: [port2],
      resourceLimits,
      // Nothing of the process's own; what there is to say goes through the port.
      env: {},
      argv: [],
      // Else each descriptor that is closed, and was not opened by node:fs, leaves a warning to be told by Node's loop,
      // which never runs in it: a kilobyte for each container and second.
      trackUnmanagedFds: false,
    });
    this.#port = port1;
    this.#port.on("message", (report: Report) => this.#take(report));
    this.#port.unref();
    this.#worker.on("error", (error) =>
      log.error("resolver: the thread has failed", { error: String(error) }),
    );
    this.ended = new Promise((resolve) => {
      this.#worker.on("exit", () => {
        closeSync(this.#wakeFd);
        this.#wakeFd = -1;
        this.#port.close();
        for (const { reject } of this.#waiting.values()) {
          reject(new NameServiceError("the resolver's thread has ended", { isTemporary: true }));
        }
        this.#waiting.clear();
        resolve();
      });
    });
    this.#worker.unref();
  }

  /** @throws {NameServiceError} with the code of what failed in it, or because the thread has ended */
  async give(order: Order): Promise<unknown> {
    if (this.#wakeFd < 0)
      throw new NameServiceError("the resolver's thread has ended", { isTemporary: true });
    const number = ++this.#number;
    const numbered: NumberedOrder = { number, order };
    return await new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      // Somebody waits, so the process has something to do.
      this.#port.ref();
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a MessagePort has no origin
      this.#port.postMessage(numbered);
      writeSync(this.#wakeFd, one);
    });
  }

  async stop(): Promise<void> {
    await this.give({ op: "stop" }).catch(() => undefined);
    await this.ended;
  }

  #take(report: Report): void {
    if (report.op === "log") {
      this.#log[report.level](report.message, report.fields);
      return;
    }
    const waiting = this.#waiting.get(report.number);
    this.#waiting.delete(report.number);
    if (this.#waiting.size === 0) this.#port.unref();
    if (report.op === "done") {
      waiting?.resolve(report.value);
      return;
    }
    const error = new NameServiceError(report.message, { isTemporary: report.code === "EMFILE" });
    waiting?.reject(report.code === undefined ? error : Object.assign(error, { code: report.code }));
  }
}
