import type { Engine, EngineStatus, Entry, Outcome, Snapshot, Step } from "#engine/engine.ts";
import { EngineError } from "#engine/error.ts";
import { callNetd, NetdUnavailable } from "#netd/client.ts";
import type { EngineCall } from "#netd/overlay/request.ts";
import { engineRequestName } from "#netd/protocol.ts";
import type { World } from "./world.ts";

const timeoutMs = 10_000;

/** The embedded engine of this host, which netd alone has open: its file has one writer. */
export class NetdEngine implements Engine {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  async commit(steps: readonly Step[]): Promise<Outcome> {
    const answer = (await this.#ask({ op: "commit", steps })) as
      | Extract<Outcome, { committed: true }>
      | { readonly committed: false; readonly revision: number; readonly found: readonly Entry[] };
    return answer.committed
      ? answer
      : { ...answer, found: new Map(answer.found.map((entry) => [entry.key, entry])) };
  }

  async read(key: string): Promise<Entry | undefined> {
    return ((await this.#ask({ op: "read", key })) as Entry | null) ?? undefined;
  }

  async list(prefix: string): Promise<Snapshot> {
    return (await this.#ask({ op: "list", prefix })) as Snapshot;
  }

  async *listInParts(prefix: string): AsyncGenerator<Snapshot, undefined> {
    yield await this.list(prefix);
    return undefined;
  }

  async status(): Promise<EngineStatus> {
    return (await this.#ask({ op: "status" })) as EngineStatus;
  }

  watch(): never {
    throw notHere();
  }

  grantLease(): never {
    throw notHere();
  }

  keepAlive(): never {
    throw notHere();
  }

  revokeLease(): never {
    throw notHere();
  }

  reconnect(): void {
    // Each call is a connection.
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #ask(call: EngineCall): Promise<unknown> {
    const { directories, environment } = this.#world;
    try {
      const { exitCode, stdout } = await callNetd({
        runDirectory: directories.run,
        environment,
        name: engineRequestName,
        stdin: JSON.stringify(call),
        timeoutMs,
      });
      const answer = JSON.parse(stdout) as unknown;
      if (exitCode === 0) return answer;
      const { msg } = answer as { readonly msg?: unknown };
      throw new EngineError(
        "unavailable",
        `Cannot use this host's engine: ${typeof msg === "string" ? msg : stdout}`,
      );
    } catch (error) {
      if (!(error instanceof NetdUnavailable)) throw error;
      throw new EngineError(
        "unavailable",
        `Cannot use this host's engine, which is netd's: ${error.message}; start netd (docs/netd.md), or give --etcd`,
        { cause: error },
      );
    }
  }
}

/** Watches and sessions are the agent's. */
function notHere(): EngineError {
  return new EngineError(
    "invalid",
    "Cannot watch this host's engine, nor hold a lease of it, from outside netd",
  );
}
