import { collectInspection } from "#netctl/inspect/collect.ts";
import type { Inspection } from "#netctl/inspect/model.ts";
import { renderInspection } from "#netctl/inspect/render.ts";
import type { Register } from "./command.ts";
import { ExitCode, Failure } from "./failure.ts";
import { writeJson } from "./io.ts";
import type { World } from "./world.ts";

export interface InspectFlags {
  readonly json?: boolean;
}

export const registerInspect: Register = (parent, invoke) => {
  parent
    .command("inspect")
    .summary("Show what the networks really are")
    .description(
      "Show networks, sandboxes and attachments as they are in the kernel: links, addresses, routes, leases, nftables elements; and where the records do not agree with it.",
    )
    .argument("[name]", "a network, a sandbox, or a container id or its beginning; everything if left out")
    .option("--json", "print JSON: docs/netctl.md")
    .action((name: string | undefined, flags: InspectFlags, command) =>
      invoke(command, (world) => inspect(name, flags, world)),
    );
};

export async function inspect(
  name: string | undefined,
  flags: InspectFlags,
  world: World,
): Promise<ExitCode> {
  const whole = await collectInspection(world);
  const shown = name === undefined ? whole : select(whole, name);
  if (flags.json === true) writeJson(world.io, shown);
  else world.io.stdout(renderInspection(shown, whole.sandboxes, world.io.colors));
  return ExitCode.Ok;
}

/** The network of that name; and the sandbox or container of that name or id, with its attachments alone. */
function select(whole: Inspection, name: string): Inspection {
  const isId = /^[a-zA-Z0-9_.-]{4,}$/.test(name);
  const isContainer = (containerId: string) => containerId === name || (isId && containerId.startsWith(name));
  const networks = whole.networks.flatMap((network) => {
    if (network.name === name || (isId && network.id.startsWith(name))) return [network];
    const attachments = network.attachments.filter(
      ({ sandbox, containerId }) => sandbox === name || isContainer(containerId),
    );
    return attachments.length === 0 ? [] : [{ ...network, attachments }];
  });
  const sandboxes = whole.sandboxes.filter(
    (sandbox) => sandbox.name === name || isContainer(sandbox.containerId),
  );
  if (networks.length + sandboxes.length === 0) {
    const known = [...whole.networks, ...whole.sandboxes].map((each) => each.name);
    const remedy =
      known.length === 0 ? "there are none" : `there are ${[...new Set(known)].sort().join(", ")}`;
    throw new Failure(`Cannot inspect ${name}: no such network, sandbox or container; ${remedy}`);
  }
  return { ...whole, networks, sandboxes };
}
