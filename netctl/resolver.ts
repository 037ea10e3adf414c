import type { Source } from "#dns-resolver/chain.ts";
import { callNetd, NetdUnavailable } from "#netd/client.ts";
import { namesRequestName } from "#netd/protocol.ts";
import { Failure } from "./failure.ts";
import type { World } from "./world.ts";

/** The resolver says within five seconds what it does not know. */
const timeoutMs = 10_000;

/** Asks netd's resolver. @throws {Failure} there is no netd, or it says no */
export async function askResolver(
  world: World,
  request: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  try {
    const { exitCode, stdout } = await callNetd({
      runDirectory: world.directories.run,
      environment: world.environment,
      name: namesRequestName,
      stdin: JSON.stringify(request),
      timeoutMs,
    });
    const answer: unknown = JSON.parse(stdout);
    if (exitCode === 0) return answer;
    const { msg } = answer as { readonly msg?: unknown };
    throw new Failure(typeof msg === "string" ? msg : stdout);
  } catch (error) {
    if (!(error instanceof NetdUnavailable)) throw error;
    throw new Failure(
      `Cannot ask the resolver: ${error.message}; containers with names start it, "netctl doctor" says more`,
    );
  }
}

/** One sentence for where an answer came from. */
export function describeSource(source: Source): string {
  switch (source.kind) {
    case "local":
      return `from the names of network ${source.network}`;
    case "special":
      return `the same everywhere: ${source.rule}`;
    case "internal":
      return "all its networks are internal, so nobody else is asked";
    case "cache":
      return `from the cache, for ${source.ageSeconds} s; ${source.server} has said so`;
    case "upstream":
      return `from ${source.server}, after ${source.ms} ms and ${source.tries} ${source.tries === 1 ? "try" : "tries"}`;
    case "failure":
      return `no answer: ${source.reason}`;
  }
}
