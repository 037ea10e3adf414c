import dnsPacket from "dns-packet";
import type { Source } from "#dns-resolver/chain.ts";
import type { ContainerReport, ResolverReport } from "#dns-resolver/messages.ts";
import { parseTypeName, rcodeName } from "#dns-resolver/wire/numbers.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode, Failure, UsageFailure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { askResolver, describeSource } from "#netctl/resolver.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";
import { didYouMean } from "#runtime/nearest-word.ts";
import type { Sandbox } from "#runtime/sandbox.ts";
import { hintsFor, type KnownContainer } from "./hints.ts";

export interface DnsQueryFlags {
  readonly from: string;
  readonly json?: boolean;
}

export const registerDnsQuery: Register = (parent, invoke) => {
  parent
    .command("query")
    .summary("Ask as a container would, and say where the answer is from")
    .description(
      "Ask the resolver what a container would get for a name, and why: which network knows it, the cache, or which server.",
    )
    .argument("<name>", "what to ask for; an address asks for its name")
    .argument("[type]", "type of record: A, AAAA, PTR, TYPE65 …", "A")
    .requiredOption("--from <sandbox>", "a sandbox, or a container by its id or the beginning of it")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl dns query --from web db\n  netctl dns query --from web example.com AAAA\n  netctl dns query --from web 10.77.0.3",
    )
    .action((name: string, type: string, flags: DnsQueryFlags, command) =>
      invoke(command, (world) => dnsQuery(name, type, flags, world)),
    );
};

interface Answer {
  readonly message: string;
  readonly source: Source;
  readonly ms: number;
}

export async function dnsQuery(
  name: string,
  typeText: string,
  flags: DnsQueryFlags,
  world: World,
): Promise<ExitCode> {
  const reversed = reverseName(name);
  const type = numberOf(reversed === undefined ? typeText : "PTR");
  const { containerId, asker, containers } = await findContainer(flags.from, world);
  const request = { op: "query", containerId, name: reversed ?? name, type };
  const { message, source, ms } = (await askResolver(world, request)) as Answer;
  const bytes = Buffer.from(message, "base64");
  const packet = dnsPacket.decode(bytes);
  const status = rcodeName((bytes[3] ?? 0) & 0x0f);
  const answers = (packet.answers ?? []).map((record) => ({
    name: record.name,
    ttl: "ttl" in record ? (record.ttl ?? 0) : 0,
    type: record.type,
    data: "data" in record ? textOf(record.data) : "",
  }));
  const address = reversed === undefined ? undefined : name;
  const hints = status === "NOERROR" ? [] : hintsFor({ name, address }, asker, containers);
  if (flags.json === true) {
    writeJson(world.io, { status, answers, source: { ...source }, why: describeSource(source), hints, ms });
  } else {
    const why = describeSource(source);
    world.io.stdout(
      `${status}${answers.length === 0 ? ", no record of that type" : ""}: ${why}\n`
        .replace("NXDOMAIN, no record of that type", "NXDOMAIN, no such name")
        .replace("SERVFAIL, no record of that type", "SERVFAIL"),
    );
    for (const hint of hints) world.io.stdout(`${hint}\n`);
    const rows = answers.map((each) => [each.name, String(each.ttl), each.type, each.data]);
    if (rows.length > 0) world.io.stdout(renderTable(["NAME", "TTL", "TYPE", "DATA"], rows));
  }
  return status === "NOERROR" ? ExitCode.Ok : ExitCode.Failure;
}

function numberOf(text: string): number {
  try {
    return parseTypeName(text);
  } catch (error) {
    throw new UsageFailure(error instanceof Error ? error.message : String(error));
  }
}

/** The name to ask for the name of an address; undefined for a name. */
function reverseName(text: string): string | undefined {
  if (/^\d+(\.\d+){3}$/.test(text)) return `${text.split(".").reverse().join(".")}.in-addr.arpa`;
  if (!text.includes(":")) return undefined;
  const [head = "", tail] = text.split("::");
  const words = (part: string) => (part === "" ? [] : part.split(":"));
  const zeros = tail === undefined ? 0 : 8 - words(head).length - words(tail).length;
  const all = [
    ...words(head),
    ...Array.from({ length: Math.max(zeros, 0) }, () => "0"),
    ...words(tail ?? ""),
  ];
  const digits = all.map((word) => word.padStart(4, "0")).join("");
  return `${digits.toLowerCase().split("").reverse().join(".")}.ip6.arpa`;
}

function textOf(data: unknown): string {
  if (typeof data === "string") return data;
  if (Buffer.isBuffer(data)) return data.toString("latin1");
  if (Array.isArray(data)) return data.map(textOf).join(" ");
  if (typeof data !== "object" || data === null) return String(data);
  return Object.values(data).map(textOf).join(" ");
}

interface Asking {
  readonly containerId: string;
  readonly asker: KnownContainer;
  readonly containers: readonly KnownContainer[];
}

/** The sandbox that was probably meant: rather one that has names. */
function nearTo(
  text: string,
  sandboxes: readonly Pick<Sandbox, "name" | "containerId">[],
  containers: readonly ContainerReport[],
): string {
  const isNamed = new Set(containers.map(({ containerId }) => containerId));
  const named = sandboxes.filter(({ containerId }) => isNamed.has(containerId));
  const [near, other] = [named, sandboxes].map((some) =>
    didYouMean(
      text,
      some.map(({ name }) => name),
    ),
  );
  return near || other || "";
}

/** A sandbox's container, or one whose id begins so. */
async function findContainer(text: string, world: World): Promise<Asking> {
  const sandboxes = await world.sandboxes.list();
  const sandbox = sandboxes.find(({ name }) => name === text);
  const { containers } = (await askResolver(world, { op: "list" })) as ResolverReport;
  const found = containers.filter(({ containerId }) =>
    sandbox ? containerId === sandbox.containerId : containerId.startsWith(text),
  );
  const [only, another] = found;
  if (another)
    throw new Failure(`Cannot tell which container --from ${text} means: ${found.length} begin so`);
  if (!only)
    throw new Failure(
      sandbox
        ? `sandbox ${text} is in no network with names`
        : `no sandbox ${text}, and no container with names whose id begins so${nearTo(text, sandboxes, containers)}`,
    );
  const known = (report: ContainerReport): KnownContainer => ({
    label:
      sandboxes.find(({ containerId }) => containerId === report.containerId)?.name ??
      report.containerId.slice(0, 12),
    report,
  });
  return { containerId: only.containerId, asker: known(only), containers: containers.map(known) };
}
