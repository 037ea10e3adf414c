import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { SandboxAttachment } from "#runtime/sandbox-record.ts";
import { noSettings } from "#runtime/sandbox-settings.ts";
import { gather, type Register } from "./command.ts";
import {
  type Action,
  hashLabel,
  hashOf,
  networkLabel,
  type Present,
  projectLabel,
  reconcile,
  serviceLabel,
  takeAway,
} from "./compose/actions.ts";
import { parseEnvFile } from "./compose/interpolate.ts";
import type { ComposeEndpoint, ComposeNetwork, ComposeProject, ComposeService } from "./compose/model.ts";
import { readCompose } from "./compose/read.ts";
import { describeError, ExitCode, Failure } from "./failure.ts";
import { writeJson } from "./io.ts";
import { networkForUse } from "./network/builtin.ts";
import { createNetwork } from "./network/create.ts";
import { parseNetworkDefinition } from "./network/definition.ts";
import { listNetworks } from "./network/listing.ts";
import { removeNetwork } from "./network/rm.ts";
import { interfacePrefix, warnUnpublished } from "./sandbox/create.ts";
import {
  attachmentFor,
  type NetworkChoice,
  parseAddress,
  parseAlias,
  parseMacFlag,
} from "./sandbox/network.ts";
import { parsePublish } from "./sandbox/port-flag.ts";
import { parseSandboxSettings } from "./sandbox/settings-flags.ts";
import type { World } from "./world.ts";

export interface ApplyFlags {
  readonly file?: string;
  readonly projectName?: string;
  readonly profile: readonly string[];
  readonly prune?: boolean;
  readonly remove?: boolean;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export const registerApply: Register = (parent, invoke) => {
  parent
    .command("apply")
    .summary("Make networks and sandboxes what a Compose file says")
    .description(
      "Create and reconcile the networks and services of a Compose file: each service is a sandbox with its networks, addresses, aliases and ports. Only what differs is touched; what the file says of images, volumes and the like is passed over.",
    )
    .option(
      "-f, --file <file>",
      "Compose file; compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml here if left out",
    )
    .option(
      "-p, --project-name <name>",
      "name in front of networks and sandboxes; the file's, or the directory's",
    )
    .option("--profile <name>", "services of this profile as well", gather, [])
    .option("--prune", "remove what the file does not name any more")
    .option("--remove", "take all of it away, as netctl down")
    .option("--force", "kill the processes that run in sandboxes which are removed")
    .option("-n, --dry-run", "only say what would be done")
    .option("--json", "print JSON: docs/compose.md")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl apply -f compose.yaml --dry-run\n  netctl apply -f compose.yaml --prune\n  TAG=2 netctl apply -p shop",
    )
    .action((flags: ApplyFlags, command) => invoke(command, (world) => apply(flags, world)));
};

export const registerDown: Register = (parent, invoke) => {
  parent
    .command("down")
    .summary("Take away what apply has made")
    .description(
      "Remove the sandboxes and networks of a Compose project, whatever its file says by now. External networks stay.",
    )
    .option("-f, --file <file>", "Compose file; looked for as by apply if left out")
    .option("-p, --project-name <name>", "the project; its file is not needed then")
    .option("--force", "kill the processes that run in the sandboxes")
    .option("-n, --dry-run", "only say what would be done")
    .option("--json", "print JSON: docs/compose.md")
    .addHelpText("after", "\nExamples:\n  netctl down -f compose.yaml\n  netctl down -p shop --force")
    .action((flags: Omit<ApplyFlags, "profile">, command) =>
      invoke(command, (world) => apply({ ...flags, profile: [], remove: true }, world)),
    );
};

export async function apply(flags: ApplyFlags, world: World): Promise<ExitCode> {
  const present: Present = { networks: await listNetworks(world), sandboxes: await world.sandboxes.list() };
  if (flags.remove === true) {
    const name = flags.projectName ?? (await readProject(flags, world)).name;
    return await carryOut(name, takeAway(name, present), flags, world);
  }
  const project = await readProject(flags, world);
  for (const path of project.unsupported)
    world.io.stderr(`netctl: warning: ${path} is not supported, and passed over\n`);
  // Before anything is done: a value that can't be used shall leave nothing behind.
  for (const network of project.networks) if (!network.isExternal) definitionOf(network, project.name);
  for (const service of project.services) settingsOf(service, project.name);
  const { actions, orphans } = reconcile(project, present, { prune: flags.prune === true });
  if (orphans.length > 0) {
    world.io.stderr(
      `netctl: warning: the file does not name ${orphans.join(", ")} of project ${project.name}; --prune removes them\n`,
    );
  }
  return await carryOut(project.name, actions, flags, world);
}

/** Stops at the first that fails: what is done is as the file says, and the next `apply` goes on from there. */
async function carryOut(
  project: string,
  actions: readonly Action[],
  flags: ApplyFlags,
  world: World,
): Promise<ExitCode> {
  const done: Action[] = [];
  let failure: unknown;
  for (const [index, each] of actions.entries()) {
    const step = `${index + 1} of ${actions.length}`;
    world.io.progress(
      `netctl ${flags.remove === true ? "down" : "apply"}: ${each.action} ${each.kind} ${each.name}, ${step}`,
    );
    try {
      if (flags.dryRun !== true) await act(each, project, flags, world);
      done.push(each);
      if (flags.json !== true) world.io.stdout(`${sentenceOf(each, flags.dryRun === true)}\n`);
    } catch (error) {
      failure = error;
      break;
    }
  }
  if (flags.json === true) {
    writeJson(world.io, {
      schema: "netctl.apply/1",
      project,
      dryRun: flags.dryRun === true,
      actions: done.map(({ action, kind, name, reason }) => ({ action, kind, name, reason })),
    });
  } else if (actions.length === 0) world.io.stdout(`project ${project}: nothing to do\n`);
  if (failure !== undefined) throw failure;
  return ExitCode.Ok;
}

function sentenceOf({ action, kind, name, reason }: Action, isDry: boolean): string {
  const verb = isDry ? `would ${action}` : action === "create" ? "created" : "removed";
  return `${verb} ${kind} ${name}${reason === "" ? "" : `: ${reason}`}`;
}

async function act(
  { action, kind, name, network, service }: Action,
  project: string,
  flags: ApplyFlags,
  world: World,
): Promise<void> {
  try {
    if (action === "remove") {
      if (kind === "network") await removeNetwork(name, world);
      else await world.sandboxes.remove(name, { kill: flags.force === true });
    } else if (network !== undefined) await createNetwork(definitionOf(network, project), world);
    else if (service !== undefined) await createSandbox(name, service, project, world);
  } catch (error) {
    throw new Failure(`Cannot ${action} ${kind} ${name}: ${describeError(error)}`, { cause: error });
  }
}

function definitionOf(network: ComposeNetwork, project: string) {
  return parseNetworkDefinition({
    name: network.name,
    driver: network.driver,
    subnets: network.subnets.map(({ subnet }) => subnet),
    gateways: network.subnets.flatMap(({ gateway }) => gateway ?? []),
    ipRanges: network.subnets.flatMap(({ ipRange }) => ipRange ?? []),
    auxAddresses: network.subnets.flatMap(({ auxAddresses }) => auxAddresses),
    options: Object.entries(network.options).map(([key, value]) => `${key}=${value}`),
    defaultOptions: {},
    labels: Object.entries({
      ...network.labels,
      [projectLabel]: project,
      [networkLabel]: network.key,
      [hashLabel]: hashOf(network),
    }).map(([key, value]) => `${key}=${value}`),
    ipv4: network.ipv4,
    ipv6: network.ipv6,
    internal: network.internal,
    ...(network.ipamDriver === undefined ? {} : { ipamDriver: network.ipamDriver }),
  });
}

function settingsOf(service: ComposeService, project: string) {
  const { hostname } = service;
  const settings = parseSandboxSettings({
    ...(hostname === undefined ? {} : { hostname }),
    dns: service.dns,
    dnsSearch: service.dnsSearch,
    dnsOption: service.dnsOptions,
    addHost: service.extraHosts,
    sysctl: service.sysctls,
    label: [],
  });
  const labels = { [projectLabel]: project, [serviceLabel]: service.key, [hashLabel]: hashOf(service) };
  return {
    settings: { ...noSettings, ...settings, labels },
    ports: service.ports.flatMap(parsePublish),
    choices: service.networks.map((endpoint) => choiceOf(endpoint, service.key)),
  };
}

function choiceOf(endpoint: ComposeEndpoint, service: string): NetworkChoice {
  const where = (field: string) => `services.${service}: ${field} of network ${endpoint.network}`;
  const { mac, interfaceName } = endpoint;
  return {
    network: endpoint.network,
    ips: endpoint.ips.map((text) => parseAddress(text, where(`address ${text}`))),
    aliases: endpoint.aliases.map((text) => parseAlias(text, where(`alias ${text}`))),
    gatewayPriority: endpoint.gatewayPriority,
    ...(mac === undefined ? {} : { mac: parseMacFlag(mac, where(`mac_address ${mac}`)) }),
    ...(interfaceName === undefined ? {} : { interfaceName }),
  };
}

async function createSandbox(
  name: string,
  service: ComposeService,
  project: string,
  world: World,
): Promise<void> {
  const { settings, ports, choices } = settingsOf(service, project);
  const attachments: SandboxAttachment[] = [];
  for (const [index, choice] of choices.entries()) {
    const network = await networkForUse(choice.network, world);
    attachments.push(attachmentFor(choice, network.configured.list, `${interfacePrefix(network)}${index}`));
  }
  const created = await world.sandboxes.create(name, attachments, ports, settings);
  warnUnpublished(created.unpublished, world);
}

const usualNames = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

async function readProject(flags: ApplyFlags, world: World): Promise<ComposeProject> {
  const { workingDirectory } = world.io;
  const candidates = flags.file === undefined ? usualNames : [flags.file];
  for (const candidate of candidates) {
    const path = resolve(workingDirectory, candidate);
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if (flags.file !== undefined)
        throw new Failure(`Cannot read ${path}: ${describeError(error)}`, { cause: error });
      continue;
    }
    const directory = dirname(path);
    const env = await readFile(join(directory, ".env"), "utf8").then(parseEnvFile, () => ({}));
    const variables = { ...env, ...world.environment };
    const projectName = flags.projectName ?? variables["COMPOSE_PROJECT_NAME"];
    const profiles = [...flags.profile, ...(variables["COMPOSE_PROFILES"] ?? "").split(",").filter(Boolean)];
    return readCompose(text, { variables, projectName, directory, profiles });
  }
  throw new Failure(
    `Cannot find a Compose file: none of ${usualNames.join(", ")} is in ${workingDirectory}; give one with -f`,
  );
}
