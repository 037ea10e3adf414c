// Commands for a VM, from outside: lines of JSON through a virtio-serial port, which for qemu is a socket of ours.
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

/** Of one command, unless it says otherwise: twenty seconds of a usual machine, and much more of a busy one. */
const limitMs = 10 * 60_000;

/** The VM that something was asked of is no more. */
export class Gone extends Error {}

export class Shell {
  #server;
  #socket;
  #waiting = new Map();
  #next = 1;
  #ended = false;

  constructor(server) {
    this.#server = server;
  }

  /** @param {string} path of the socket that qemu is to connect to */
  static async listen(path) {
    const server = createServer();
    server.listen(path);
    await once(server, "listening");
    const shell = new Shell(server);
    server.on("connection", (socket) => shell.#connected(socket));
    return shell;
  }

  #connected(socket) {
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => {
      const { id, ...outcome } = JSON.parse(line);
      this.#waiting.get(id)?.resolve(outcome);
      this.#waiting.delete(id);
    });
    // As when a VM is killed; both are told, and what follows is the end.
    for (const each of [lines, socket]) each.on("error", () => {});
    socket.on("close", () => this.end());
  }

  /** Runs it by bash. @returns `{ status, stdout, stderr }`; status is null where it took too long */
  async run(command, environment = {}) {
    if (this.#ended || this.#socket === undefined) throw new Gone(`The VM is gone: ${command}`);
    const id = this.#next++;
    const outcome = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject: () => reject(new Gone(`The VM has ended: ${command}`)) });
    });
    this.#socket.write(`${JSON.stringify({ id, command, environment, limitMs })}\n`);
    return await outcome;
  }

  /** Until the VM takes commands. @param {AbortSignal} signal */
  async ready(signal) {
    if (this.#socket === undefined) await once(this.#server, "connection", { signal });
    await this.run("true");
  }

  /** The VM ends when nobody holds the other end. */
  end() {
    this.#ended = true;
    this.#socket?.destroy();
    this.#server.close();
    for (const { reject } of this.#waiting.values()) reject();
    this.#waiting.clear();
  }
}
