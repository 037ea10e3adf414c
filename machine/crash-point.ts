import { AsyncLocalStorage } from "node:async_hooks";
import { appendFileSync } from "node:fs";

/** Defined by the bundler: true in the fault build of conformance/faults, false in what is installed. */
declare const NETCTL_FAULTS: boolean | undefined;

/** Which of the suite's programs passes a point. */
export type Place = "standalone" | "netd" | "recovery";

type Environment = Readonly<Record<string, string | undefined>>;

/** What one request has said shall happen to it, and which points it has passed. */
interface Scope {
  readonly place: Place;
  readonly environment: Environment;
  readonly passed: Map<string, number>;
}

const scopes = /* @__PURE__ */ new AsyncLocalStorage<Scope>();

/**
 * Marks a place between two steps, at which tests kill, stop or fail the process. Nothing at all in an installed
 * program: the call and what it leads to are left out when that is bundled. In the fault build the request's
 * environment says what happens, each a list of `PLACE/NAME`, or `PLACE/NAME:2` for the second time it is passed:
 *
 * - `NETCTL_CRASH_AT`: SIGKILL
 * - `NETCTL_STOP_AT`: SIGSTOP; somebody else sends SIGCONT
 * - `NETCTL_FAIL_AT`: an error is thrown
 * - `NETCTL_PRETEND`: names alone, of what `pretends()` is asked
 * - `NETCTL_FAULT_TRACE`: a file to which every point that is passed is appended
 *
 * @param name words with hyphens, as what has been done last: "journal-begun"
 */
export function crashPoint(name: string): void {
  if (typeof NETCTL_FAULTS !== "undefined" && NETCTL_FAULTS) pass(name);
}

/** Runs `work` with the crash points that `environment` names. In an installed program it only runs `work`. */
export async function withCrashPoints<Value>(
  place: Place,
  environment: Environment,
  work: () => Promise<Value>,
): Promise<Value> {
  if (typeof NETCTL_FAULTS !== "undefined" && NETCTL_FAULTS) {
    return await scopes.run({ place, environment, passed: new Map() }, work);
  }
  return await work();
}

/**
 * True where the request's environment lists `name` in `NETCTL_PRETEND`: for what another kernel does, and this one does
 * not. In an installed program always false.
 */
export function pretends(name: string): boolean {
  if (typeof NETCTL_FAULTS === "undefined" || !NETCTL_FAULTS) return false;
  const { NETCTL_PRETEND: names = "" } = scopes.getStore()?.environment ?? {};
  return names.split(",").includes(name);
}

function append(file: string, point: string): void {
  try {
    appendFileSync(file, `${point}\n`);
  } catch {
    // A test that leaves no descriptor to be had has no use for a trace either.
  }
}

function pass(name: string): void {
  const scope = scopes.getStore();
  if (!scope) return;
  const { place, environment, passed } = scope;
  const times = (passed.get(name) ?? 0) + 1;
  passed.set(name, times);
  const point = times === 1 ? `${place}/${name}` : `${place}/${name}:${times}`;
  const trace = environment["NETCTL_FAULT_TRACE"];
  if (trace) append(trace, point);
  const isAsked = (variable: string) => environment[variable]?.split(",").includes(point) ?? false;
  if (isAsked("NETCTL_CRASH_AT")) process.kill(process.pid, "SIGKILL");
  if (isAsked("NETCTL_STOP_AT")) process.kill(process.pid, "SIGSTOP");
  if (isAsked("NETCTL_FAIL_AT")) throw new Error(`a made-up failure at ${point}`);
}
