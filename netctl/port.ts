import { didYouMean } from "#runtime/nearest-word.ts";
import type { Register } from "./command.ts";
import { ExitCode, Failure, UsageFailure } from "./failure.ts";
import { writeJson } from "./io.ts";
import { hostText, type PublishedPort, publishedPortsOf } from "./port-text.ts";
import type { World } from "./world.ts";

export interface PortFlags {
  readonly json?: boolean;
}

export const registerPort: Register = (parent, invoke) => {
  parent
    .command("port")
    .summary("Show published ports")
    .description("Show which ports of the host lead to a sandbox, or to a container of any runtime.")
    .argument("<container>", "a sandbox, or a container id or its beginning")
    .argument("[port]", "port of the container, PORT[/PROTOCOL]: only the host's side of it")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      `
Examples:
  netctl port web              80/tcp -> 0.0.0.0:8080
  netctl port web 80/tcp       0.0.0.0:8080`,
    )
    .action((name: string, port: string | undefined, flags: PortFlags, command) =>
      invoke(command, (world) => showPorts(name, port, flags, world)),
    );
};

export async function showPorts(
  name: string,
  port: string | undefined,
  flags: PortFlags,
  world: World,
): Promise<ExitCode> {
  const wanted = port === undefined ? undefined : parseContainerPort(port);
  const containerId = await findContainer(name, world);
  const cached = await world.chain.cache.list();
  const all = publishedPortsOf(containerId, world.journal, cached);
  const isWanted = (each: PublishedPort) =>
    wanted === undefined || (each.containerPort === wanted.port && each.protocol === wanted.protocol);
  const shown = all
    .filter(isWanted)
    .toSorted((a, b) => a.containerPort - b.containerPort || (a.protocol < b.protocol ? -1 : 1));
  if (flags.json === true) writeJson(world.io, shown);
  if (wanted !== undefined && shown.length === 0) {
    throw new Failure(`no public port '${wanted.port}/${wanted.protocol}' published for ${name}`);
  }
  if (flags.json === true) return ExitCode.Ok;
  const line = (each: PublishedPort) =>
    wanted === undefined
      ? `${each.containerPort}/${each.protocol} -> ${hostText(each)}\n`
      : `${hostText(each)}\n`;
  world.io.stdout(shown.map(line).join(""));
  return ExitCode.Ok;
}

function parseContainerPort(text: string) {
  const [, port, protocol = "tcp"] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? [];
  if (port === undefined) throw new UsageFailure(`Cannot use port "${text}": expected PORT[/PROTOCOL]`);
  return { port: Number(port), protocol: protocol.toLowerCase() };
}

/** The id of a sandbox, or the one container that journal or cache know by an id that begins so. */
async function findContainer(name: string, world: World): Promise<string> {
  const sandboxes = await world.sandboxes.list();
  const sandbox = sandboxes.find((each) => each.name === name);
  if (sandbox !== undefined) return sandbox.containerId;
  const known = new Set([
    ...sandboxes.map(({ containerId }) => containerId),
    ...(await world.chain.cache.list()).map(({ containerId }) => containerId),
    ...world.journal.list().map(({ key }) => key.containerId),
  ]);
  if (known.has(name)) return name;
  const found = [...known].filter((id) => name !== "" && id.startsWith(name));
  if (found.length > 1) throw new Failure(`container ${name} is ambiguous: ${found.sort().join(", ")}`);
  if (found[0] === undefined) {
    const names = sandboxes.map((each) => each.name);
    throw new Failure(`No such container: ${name}${didYouMean(name, names)}`);
  }
  return found[0];
}
