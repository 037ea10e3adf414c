import type { AttachmentKey } from "#journal/record.ts";
import type { PluginHost } from "#plugins/context.ts";
import { fromKept } from "./kept.ts";

/** What of an attachment's links and addresses in the host's namespace is not as it was made. */
export interface LinkProblem {
  readonly key: AttachmentKey;
  readonly plugin: string;
  readonly problem: string;
}

/** Looks at the links of all attachments. Repair can't mend them: the container has to be attached anew. */
export async function findLinkProblems(host: PluginHost): Promise<readonly LinkProblem[]> {
  const { values } = await fromKept(host, ({ record: { key, plugin }, record, upkeep }) =>
    problemsOf(() => upkeep.linkProblems?.(record, host) ?? []).map((problem) => ({ key, plugin, problem })),
  );
  return values.flat();
}

function problemsOf(look: () => readonly string[]): readonly string[] {
  try {
    return look();
  } catch (error) {
    return [`cannot be looked at: ${error instanceof Error ? error.message : String(error)}`];
  }
}
