import { createHash, randomBytes } from "node:crypto";
import { createServer, type Server } from "node:net";
import { pipeline, Readable } from "node:stream";
import type { Engine, Entry } from "#engine/engine.ts";
import type { Log } from "#machine/log.ts";
import { type BulkRecord, readBulkRecord, transferMs } from "./bulk-request.ts";

/** At once: who asks more is not heard. */
const maxServers = 4;
/** So much is made at a time, as the other end takes it: whatever else this process does goes on meanwhile. */
const pieceBytes = 64 * 1024;

/** Sends what `takeBulk()` of another host asks for: each once, to that host alone, for a few seconds. */
export class BulkSender {
  readonly #engine: Engine;
  readonly #log: Log;
  readonly #servers = new Map<string, Server>();

  constructor(engine: Engine, log: Log) {
    this.#engine = engine;
    this.#log = log;
  }

  /**
   * @param entry below `keys.bulkAskedOf()` of this host
   * @param own texts of the addresses that this host's tunnels have: it listens at no other
   */
  offer(entry: Entry, own: ReadonlySet<string>): void {
    const asked = readBulkRecord(entry.value);
    if (asked?.port !== undefined || !asked || !own.has(asked.at)) return;
    if (this.#servers.has(entry.key) || this.#servers.size >= maxServers) return;
    const server = createServer((socket) => {
      if (socket.remoteAddress !== asked.from) {
        socket.destroy();
        return;
      }
      socket.on("error", () => undefined);
      socket.setTimeout(2 * transferMs, () => socket.destroy());
      pipeline(Readable.from(withDigest(asked.bytes)), socket, () => undefined);
      server.close();
    });
    this.#servers.set(entry.key, server);
    const timer = setTimeout(() => server.close(), 2 * transferMs).unref();
    server.once("close", () => {
      clearTimeout(timer);
      this.#servers.delete(entry.key);
    });
    server.once("error", (error) => {
      this.#log.warn("cannot send what another host asks for", { at: asked.at, error: error.message });
      this.#servers.delete(entry.key);
    });
    server.listen(0, asked.at, () => void this.#tell(entry, asked, server));
  }

  close(): void {
    for (const server of this.#servers.values()) server.close();
  }

  async #tell({ key, revision }: Entry, asked: BulkRecord, server: Server): Promise<void> {
    const address = server.address();
    if (address === null || typeof address === "string") return;
    const value = JSON.stringify({ ...asked, port: address.port });
    try {
      await this.#engine.commit([{ kind: "replace", key, revision, value, lease: asked.lease }]);
    } catch (error) {
      this.#log.warn("cannot say where to fetch what another host asks for", { error: String(error) });
      server.close();
    }
  }
}

function* withDigest(bytes: number): Generator<Buffer> {
  const hash = createHash("sha256");
  for (let left = bytes; left > 0; left -= pieceBytes) {
    const piece = randomBytes(Math.min(left, pieceBytes));
    hash.update(piece);
    yield piece;
  }
  yield hash.digest();
}
