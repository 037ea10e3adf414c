import type { Command } from "commander";
import type { World } from "./world.ts";

/** What a subcommand does once its words are understood; answers with an `ExitCode`, or with that of the command which it ran. */
export type Action = (world: World) => Promise<number>;

/** Runs an action in the world that the global flags of this command line describe. */
export type Invoke = (command: Command, action: Action) => Promise<void>;

/** Adds a subcommand to its parent. Each file of a subcommand has one of these; `program.ts` lists them. */
export type Register = (parent: Command, invoke: Invoke) => void;

/** Gathers the values of an option that may be given several times: `-o a=1 -o b=2`. */
export function gather(value: string, earlier: readonly string[]): readonly string[] {
  return [...earlier, value];
}
