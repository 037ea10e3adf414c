import type { Case, CaseResult, Topic } from "./case.ts";
import { Failure, Skip } from "./failure.ts";
import { type Bench, Lab } from "./lab.ts";

export interface Selected {
  readonly topic: Topic;
  readonly case: Case;
}

/** The cases that `only` and `text` leave, in order. @throws {RangeError} if a topic has another name */
export function select(
  topics: readonly Topic[],
  only: readonly string[],
  text: string | undefined,
): readonly Selected[] {
  for (const name of only) {
    if (!topics.some((topic) => topic.name === name))
      throw new RangeError(
        `Unknown topic "${name}", expected ${topics.map((topic) => topic.name).join(", ")}`,
      );
  }
  return topics
    .filter((topic) => only.length === 0 || only.includes(topic.name))
    .flatMap((topic) => topic.cases.map((one) => ({ topic, case: one })))
    .filter((selected) => text === undefined || selected.case.title.includes(text));
}

/** Runs the cases, `jobs` at a time, and answers with one result each, in the order given. */
export async function runCases(
  bench: Bench,
  selected: readonly Selected[],
  jobs: number,
  progress: (result: CaseResult, done: number) => void,
): Promise<readonly CaseResult[]> {
  const results: (CaseResult | undefined)[] = selected.map(() => undefined);
  let next = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      const at = next;
      next += 1;
      const one = selected[at];
      if (one === undefined) return;
      const result = await runCase(bench, one, `l${at}`);
      results[at] = result;
      done += 1;
      progress(result, done);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return results.filter((result) => result !== undefined);
}

async function runCase(bench: Bench, selected: Selected, label: string): Promise<CaseResult> {
  const { topic, case: one } = selected;
  const startedMs = performance.now();
  const finish = (status: CaseResult["status"], reason: string): CaseResult => ({
    topic: topic.name,
    title: one.title,
    source: one.source,
    status,
    reason,
    durationMs: Math.round(performance.now() - startedMs),
    ...(one.reference === undefined ? {} : { reference: one.reference }),
  });
  for (const executable of [...topic.executables, ...(one.executables ?? [])]) {
    if (!bench.executables.has(executable)) return finish("skip", `no executable ${executable}`);
  }
  for (const feature of one.needs ?? []) {
    const missing = bench.missingFeatures.get(feature);
    if (missing !== undefined) return finish("skip", `this machine has no ${feature}: ${missing}`);
  }
  let lab: Lab | undefined;
  try {
    lab = await Lab.open(bench, label);
    await one.run(lab);
    await lab.settle();
    return finish("pass", "");
  } catch (error) {
    if (error instanceof Skip) return finish("skip", error.message);
    if (error instanceof Failure) return finish("fail", error.message);
    return finish("fail", `the kit itself failed: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    // What can't be removed here goes with the mount namespace at the end of the run.
    await lab?.close().catch(() => undefined);
  }
}
