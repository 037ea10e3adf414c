import { type KnownAttachment, listAttachments } from "#runtime/attachments.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import { ChainFailure, checkNetworkList, targetOf } from "#runtime/chain.ts";
import { didYouMean } from "#runtime/nearest-word.ts";
import { PluginFailure } from "#runtime/plugin-call.ts";
import type { Sandbox } from "#runtime/sandbox.ts";
import type { Register } from "./command.ts";
import { describeError, ExitCode, Failure } from "./failure.ts";
import { listAtAdd } from "./forget-attachment.ts";
import { writeJson } from "./io.ts";
import { listNetworks, type Network } from "./network/listing.ts";
import { renderTable } from "./table.ts";
import type { World } from "./world.ts";

export interface CheckFlags {
  readonly json?: boolean;
}

/** What became of one attachment's CHECK. */
interface Checked {
  readonly network: string;
  readonly containerId: string;
  /** Null for a container of another runtime. */
  readonly sandbox: string | null;
  readonly ifName: string;
  /**
   * `ok`; `wrong`: a plugin has found a difference; `gone`: its namespace is not there any more; `unchecked`: nobody
   * could be asked, or the network forbids it.
   */
  readonly state: "ok" | "wrong" | "gone" | "unchecked";
  readonly problems: readonly string[];
}

export const registerCheck: Register = (parent, invoke) => {
  parent
    .command("check")
    .summary("Ask the plugins whether attachments are as they were made")
    .description(
      "CHECK of every attachment: the plugins compare links, addresses, routes, rules and leases with what ADD has made, and name what is otherwise. Changes nothing. Exit code 1 if anything is wrong, or gone.",
    )
    .argument("[name]", "sandbox, network, or container by id or its beginning; all if left out")
    .option("--json", "print JSON: docs/netctl.md")
    .addHelpText("after", "\nExamples:\n  netctl check\n  netctl check web\n  netctl check alice --json")
    .action((name: string | undefined, flags: CheckFlags, command) =>
      invoke(command, (world) => check(name, flags, world)),
    );
};

export async function check(name: string | undefined, { json }: CheckFlags, world: World): Promise<ExitCode> {
  const networks = await listNetworks(world);
  const sandboxes = await world.sandboxes.list();
  const cached = await world.chain.cache.list();
  const attachments = await listAttachments(world.journal, world.chain.cache);
  const chosen = name === undefined ? attachments : choose(name, attachments, sandboxes, networks);
  const results: Checked[] = [];
  for (const attachment of chosen) {
    results.push(await checkOne(attachment, { cached, sandboxes, networks }, world));
  }
  const lost = sandboxes.filter(
    (sandbox) => sandbox.state !== "ready" && (name === undefined || sandbox.name === name),
  );
  if (json === true) {
    const states = lost.map(({ name, state }) => ({ name, state }));
    writeJson(world.io, { schema: "netctl.check/1", attachments: results, sandboxes: states });
  } else world.io.stdout(render(results, lost));
  const isWrong = results.some(({ state }) => state === "wrong" || state === "gone") || lost.length > 0;
  return isWrong ? ExitCode.Failure : ExitCode.Ok;
}

/** @throws {Failure} */
function choose(
  name: string,
  attachments: readonly KnownAttachment[],
  sandboxes: readonly Sandbox[],
  networks: readonly Network[],
): readonly KnownAttachment[] {
  const sandbox = sandboxes.find((each) => each.name === name);
  if (sandbox !== undefined)
    return attachments.filter(({ containerId }) => containerId === sandbox.containerId);
  if (networks.some((each) => each.name === name))
    return attachments.filter(({ network }) => network === name);
  const isId = /^[a-zA-Z0-9_.-]{4,}$/.test(name);
  const found = attachments.filter(
    ({ containerId }) => containerId === name || (isId && containerId.startsWith(name)),
  );
  if (found.length > 0) return found;
  const near = didYouMean(
    name,
    [...sandboxes, ...networks].map((each) => each.name),
  );
  throw new Failure(`Cannot check ${name}: no such sandbox, network or container${near}`);
}

async function checkOne(
  attachment: KnownAttachment,
  known: {
    readonly cached: readonly CachedAttachment[];
    readonly sandboxes: readonly Sandbox[];
    readonly networks: readonly Network[];
  },
  world: World,
): Promise<Checked> {
  const { network, containerId, ifName, netns, isAlive } = attachment;
  const sandbox = known.sandboxes.find((each) => each.containerId === containerId)?.name ?? null;
  const answer = (state: Checked["state"], ...problems: readonly string[]): Checked => ({
    network,
    containerId,
    sandbox,
    ifName,
    state,
    problems,
  });
  if (!isAlive && netns !== "") {
    return answer(
      "gone",
      `its namespace ${netns} is gone, and no DEL came; "netctl gc ${network}" clears it away`,
    );
  }
  const entry = known.cached.find(
    (each) => each.network === network && each.containerId === containerId && each.ifName === ifName,
  );
  const list =
    (entry && listAtAdd(entry)) ?? known.networks.find(({ name }) => name === network)?.configured.list;
  if (entry === undefined || list === undefined) {
    return answer("unchecked", "no result of its ADD is cached here: only the runtime that made it can ask");
  }
  if (list.disableCheck) return answer("unchecked", 'the network forbids it ("disableCheck")');
  try {
    // The default route of a sandbox with several networks is that of one of them.
    const expected =
      sandbox === null ? undefined : await world.sandboxes.expectedOf(sandbox, { network, ifName });
    await checkNetworkList(list, targetOf(entry), world.chain, (result) => expected ?? result);
    return answer("ok");
  } catch (error) {
    return answer("wrong", ...problemsOf(error));
  }
}

/** One sentence each. A plugin's error joins them with "; ". */
function problemsOf(error: unknown): readonly string[] {
  if (error instanceof ChainFailure) return (error.errors as readonly unknown[]).flatMap(problemsOf);
  if (error instanceof PluginFailure) {
    const { cause, type } = error;
    return describeError(cause)
      .split("; ")
      .map((problem) => `${type}: ${problem}`);
  }
  return [describeError(error)];
}

function render(results: readonly Checked[], lost: readonly Sandbox[]): string {
  const rows = results.map(({ network, sandbox, containerId, ifName, state, problems }) => [
    network,
    sandbox ?? containerId.slice(0, 12),
    ifName,
    state,
    problems.join("\n"),
  ]);
  const sandboxes = lost.map(
    ({ name, state }) =>
      `sandbox ${name} is ${state}: netctl sandbox ${state === "changing" ? "repair" : "rm"} ${name}\n`,
  );
  return renderTable(["NETWORK", "CONTAINER", "INTERFACE", "STATE", "PROBLEMS"], rows) + sandboxes.join("");
}
