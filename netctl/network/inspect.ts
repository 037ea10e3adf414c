import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import { completeRange } from "#ipam/range.ts";
import { parseCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode, Failure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { parseTemplate, type TemplateValue, unescapeFormat } from "#netctl/template.ts";
import type { World } from "#netctl/world.ts";
import { UnknownNetwork } from "#runtime/conf-dir.ts";
import type { NetworkNotes } from "./conflist.ts";
import { scopeOf } from "./filter.ts";
import { attachmentsOf, builtinNetworks, findNetwork, type Network } from "./listing.ts";

export interface NetworkInspectFlags {
  readonly format?: string;
}

export const registerNetworkInspect: Register = (parent, invoke) => {
  parent
    .command("inspect")
    .summary("Show the configuration of networks")
    .description(
      'Show the configuration of networks and who is attached, as JSON. For what the kernel does: "netctl inspect".',
    )
    .argument("<name...>", "names or ids of networks")
    .option("-f, --format <template>", "json, or a Go template of the fields")
    .option("--json", "print JSON, as without it")
    .addHelpText(
      "after",
      `
Examples:
  netctl network inspect web
  netctl network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{end}}' web
  netctl network inspect -f '{{range $id, $c := .Containers}}{{$c.Name}} {{$c.IPv4Address}}{{"\\n"}}{{end}}' web`,
    )
    .action((names: readonly string[], flags: NetworkInspectFlags, command) =>
      invoke(command, (world) => networkInspect(names, flags, world)),
    );
};

/** Also `bridge`, `host` and `none` where they have no configuration. */
async function findAnyNetwork(name: string, world: World): Promise<Network> {
  try {
    return await findNetwork(world, name);
  } catch (error) {
    const builtin = builtinNetworks().find(
      (each) => each.name === name || (name.length >= 4 && each.id.startsWith(name)),
    );
    if (!(error instanceof UnknownNetwork) || builtin === undefined) throw error;
    return builtin;
  }
}

/** Docker's fields first, under Docker's names; what is beyond them below `Cni`. */
export async function networkInspect(
  names: readonly string[],
  flags: NetworkInspectFlags,
  world: World,
): Promise<ExitCode> {
  const template =
    flags.format === undefined || flags.format === "json"
      ? undefined
      : parseTemplate(unescapeFormat(flags.format));
  const found: TemplateValue[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const name of names) {
    try {
      found.push(await render(await findAnyNetwork(name, world), world));
    } catch (error) {
      if (!(error instanceof UnknownNetwork) && !(error instanceof Failure)) throw error;
      world.io.stderr(`netctl: ${error.message}\n`);
      exitCode = ExitCode.Failure;
    }
  }
  if (template === undefined) writeJson(world.io, found);
  else world.io.stdout(found.map((each) => `${template(each)}\n`).join(""));
  return exitCode;
}

async function render(network: Network, world: World) {
  const { name, id, driver, notes, subnets, configured } = network;
  const ipams = configured.list.plugins.map(({ json }) => field(json, "ipam")).filter(isJsonObject);
  const hasGateway = configured.list.plugins.some(({ json }) =>
    ["isGateway", "isDefaultGateway"].some((key) => field(json, key) === true),
  );
  const sandboxes = await world.sandboxes.list();
  const cached = await world.chain.cache.list(name);
  const attachments = await attachmentsOf(world, name);
  return {
    Name: name,
    Id: id,
    Created: notes?.createdAt ?? "",
    Scope: scopeOf(network),
    Driver: driver,
    EnableIPv4: subnets.some(({ subnet }) => !subnet.includes(":")),
    EnableIPv6: subnets.some(({ subnet }) => subnet.includes(":")),
    IPAM: {
      Driver: typeOf(ipams[0]),
      Options: {},
      Config: subnets.map(({ subnet, gateway, rangeStart, rangeEnd }) => ({
        Subnet: subnet,
        ...rangeNotes(notes, subnet),
        ...(rangeStart === undefined ? {} : { RangeStart: rangeStart }),
        ...(rangeEnd === undefined ? {} : { RangeEnd: rangeEnd }),
        ...given("Gateway", gateway ?? (hasGateway ? firstAddress(subnet) : undefined)),
      })),
    },
    Internal: notes?.internal ?? false,
    Attachable: true,
    Ingress: false,
    Containers: Object.fromEntries(
      attachments.map(({ containerId, ifName, netns, isAlive }) => {
        const entry = cached.find(
          (candidate) => candidate.containerId === containerId && candidate.ifName === ifName,
        );
        const sandbox = sandboxes.find((candidate) => candidate.containerId === containerId);
        return [
          containerId,
          {
            Name: sandbox?.name ?? "",
            IfName: ifName,
            Netns: netns,
            Alive: isAlive,
            ...addresses(entry?.result, ifName),
          },
        ];
      }),
    ),
    Options: notes?.options ?? {},
    Labels: notes?.labels ?? {},
    Cni: {
      Path: configured.path,
      CniVersion: configured.list.cniVersion,
      Plugins: configured.list.plugins.map(({ json }) => json),
    },
  };
}

function rangeNotes(notes: NetworkNotes | undefined, subnet: string) {
  const found = notes?.subnets.find((each) => each.subnet === subnet);
  const aux = found?.auxAddresses ?? {};
  return {
    ...(found?.ipRange === undefined ? {} : { IPRange: found.ipRange }),
    ...(Object.keys(aux).length === 0 ? {} : { AuxiliaryAddresses: aux }),
  };
}

function given(key: string, value: string | undefined): Readonly<Record<string, string>> {
  return value === undefined ? {} : { [key]: value };
}

/** What host-local takes for the gateway where nobody names one. Undefined for what it would refuse. */
function firstAddress(subnet: string): string | undefined {
  try {
    return formatIp(completeRange({ subnet: parseCidr(subnet) }).gateway);
  } catch {
    return undefined;
  }
}

const typeOf = (ipam: JsonObject | undefined) => {
  const type = ipam === undefined ? undefined : field(ipam, "type");
  return typeof type === "string" ? type : "";
};

/** Of a cached result in any version: the interface's MAC and its first address of each family. */
function addresses(result: JsonObject | undefined, ifName: string) {
  const list = (key: string): readonly JsonObject[] => {
    const value = result?.[key];
    return Array.isArray(value) ? (value as readonly unknown[]).filter(isJsonObject) : [];
  };
  const mac = list("interfaces").find((entry) => entry["name"] === ifName)?.["mac"];
  const ips = list("ips").flatMap(({ address }) => (typeof address === "string" ? [address] : []));
  return {
    MacAddress: typeof mac === "string" ? mac : "",
    IPv4Address: ips.find((address) => !address.includes(":")) ?? "",
    IPv6Address: ips.find((address) => address.includes(":")) ?? "",
  };
}
