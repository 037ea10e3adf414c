import type { Call, Outcome } from "#cni/plugin.ts";
import type { Log, LogFields } from "#machine/log.ts";
import { traceFields } from "#machine/trace-context.ts";
import { subjectOf } from "./run-plugin.ts";

/** Asked every few seconds by kubelets, and of no interest where all is well. */
const quietVerbs: readonly (string | undefined)[] = ["STATUS", "VERSION"];

/**
 * What every line about one call says: the verb and its plugin, the attachment, who the container is to its runtime, and
 * the trace that the call is part of.
 */
export function callFields(plugin: string, call: Call): LogFields {
  const { environment } = call;
  const { CNI_COMMAND: verb } = environment;
  const subject = subjectOf(call);
  const name = containerName(environment["CNI_ARGS"] ?? "");
  return {
    verb,
    plugin,
    ...(subject === undefined ? {} : { network: subject.network }),
    ...(subject?.containerId === undefined
      ? {}
      : { containerId: subject.containerId, ifName: subject.ifName }),
    ...(name === undefined ? {} : { name }),
    ...traceFields(environment),
  };
}

/** NAMESPACE/NAME of a pod; podman says the container's name in both. */
function containerName(args: string): string | undefined {
  const value = (key: string) =>
    args
      .split(";")
      .findLast((pair) => pair.startsWith(`${key}=`))
      ?.slice(key.length + 1);
  const name = value("K8S_POD_NAME");
  const namespace = value("K8S_POD_NAMESPACE");
  if (!name) return undefined;
  return namespace && namespace !== name ? `${namespace}/${name}` : name;
}

/**
 * Runs a call and writes how it went: one line.
 * @param log has the call's fields already
 */
export async function withOutcomeLogged(
  log: Log,
  call: Pick<Call, "environment">,
  run: () => Promise<Outcome>,
): Promise<Outcome> {
  const startMs = performance.now();
  const outcome = await run();
  const ms = Math.round((performance.now() - startMs) * 10) / 10;
  const { CNI_COMMAND: verb = "" } = call.environment;
  if (outcome.exitCode !== 0) log.warn(`${verb} failed`, { ms, ...describeFailure(outcome) });
  else if (quietVerbs.includes(verb)) log.debug(`${verb} done`, { ms });
  else log.info(`${verb} done`, { ms });
  return outcome;
}

/** What a plugin answers that has failed: an object of the specification, or anything at all. */
function describeFailure({ exitCode, stdout, stderr }: Outcome): LogFields {
  try {
    const { code, msg, details } = JSON.parse(stdout) as Readonly<Record<string, unknown>>;
    return { code, error: msg, ...(details === undefined || details === "" ? {} : { details }) };
  } catch {
    return { exitCode, error: (stdout || stderr).trim().slice(0, 2000) };
  }
}
