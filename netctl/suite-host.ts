import { lineLog } from "#machine/log.ts";
import { LogFile, logFilePath } from "#machine/log-file.ts";
import type { World } from "./world.ts";

/**
 * The host as plugins see it, for what netctl asks all of them. Loaded only here: all plugins come with it.
 * The caller closes it.
 */
export async function openSuite(world: World) {
  const [{ openHost }, { repair, foundAnything, repairAttributes }, { findLinkProblems }] = await Promise.all(
    [import("#suite/host.ts"), import("#suite/repair.ts"), import("#suite/link-problems.ts")],
  );
  const file = new LogFile(logFilePath(world.environment));
  const log = lineLog([
    { level: "warn", write: (line) => world.io.stderr(line) },
    { level: "info", events: true, write: (line) => file.append(line) },
  ]);
  const host = openHost(world.environment, log, world.directories);
  return { host, repair, foundAnything, repairAttributes, findLinkProblems };
}
