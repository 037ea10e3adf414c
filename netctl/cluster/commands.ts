import { statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import {
  becomeMember,
  forgetMembership,
  type MemberFlags,
  parsePool,
  requireMembership,
  withCluster,
} from "#netctl/cluster.ts";
import { gather, type Register } from "#netctl/command.ts";
import { ExitCode, Failure, UsageFailure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";
import { socketPath } from "#netd/protocol.ts";
import { adopt } from "#overlay/adopt.ts";
import { overlayDirectory } from "#overlay/host-settings.ts";
import { KnownFile } from "#overlay/known-file.ts";
import { readBlock, readHost } from "#overlay/record.ts";
import { readOverlayStatus } from "#overlay/status-file.ts";

function memberOptions(command: Command): Command {
  return command
    .option("--etcd <url>", "a member of the etcd cluster; may be repeated", gather, [])
    .option("--kubernetes [url]", "an API server as engine, instead of etcd; a pod's own if none is named")
    .option("--kubernetes-namespace <name>", "where its custom resources are; netctl")
    .option("--token-file <file>", "with the bearer token for it; a pod's own")
    .option("--ca <file>", "certificate authority of etcd's or the API server's, PEM")
    .option("--cert <file>", "this host's certificate for etcd, PEM")
    .option("--key <file>", "its key, PEM")
    .option("--user <name>", "user of etcd's")
    .option("--password-file <file>", "with that user's password")
    .option(
      "--underlay <device|address>",
      "what the other hosts reach this one by; the default route's device",
    )
    .option("--host-name <name>", "what people call this host; the machine's name");
}

interface InitFlags extends MemberFlags {
  readonly pool: readonly string[];
  readonly udpPort: string;
  readonly json?: boolean;
}

export const registerClusterInit: Register = (parent, invoke) => {
  memberOptions(
    parent
      .command("init")
      .summary("Found a cluster")
      .description(
        "Found a cluster, or join the one of that name: hosts whose networks reach over all of them.",
      )
      .argument("[name]", "name of the cluster", "default"),
  )
    .option("--pool <base,size[,block]>", "range of subnets for its networks; may be repeated", gather, [])
    .option("--udp-port <port>", "of VXLAN, on all hosts", "4789")
    .option("--json", "print what was written")
    .addHelpText(
      "after",
      `
Examples:
  netctl cluster init                                  # one host, without etcd
  netctl cluster init --etcd http://10.0.0.1:2379
  netctl cluster init prod --etcd https://a:2379 --etcd https://b:2379 --ca /etc/etcd/ca.pem --pool 10.32.0.0/12,16,26`,
    )
    .action((name: string, flags: InitFlags, command) =>
      invoke(command, async (world) => {
        const udpPort = Number(flags.udpPort);
        if (!Number.isInteger(udpPort) || udpPort < 1 || udpPort > 65535)
          throw new UsageFailure(`Cannot use --udp-port ${flags.udpPort}: expected 1 to 65535`);
        return await join(world, name, flags, { pools: flags.pool.map(parsePool), udpPort });
      }),
    );
};

export const registerClusterJoin: Register = (parent, invoke) => {
  memberOptions(
    parent
      .command("join")
      .summary("Make this host a member")
      .description(
        "Make this host a member of a cluster that is there. Its networks appear here within a second.",
      )
      .argument("[name]", "name of the cluster", "default"),
  )
    .option("--json", "print what was written")
    .action((name: string, flags: InitFlags, command) =>
      invoke(command, (world) => join(world, name, flags, undefined)),
    );
};

async function join(
  world: World,
  name: string,
  flags: InitFlags,
  founding: Parameters<typeof becomeMember>[3],
): Promise<ExitCode> {
  const { nonce, engine, ...settings } = await becomeMember(world, name, flags, founding);
  void nonce;
  const endpoints =
    engine.kind === "etcd" ? engine.endpoints : engine.kind === "kubernetes" ? [engine.server] : [];
  if (flags.json === true) writeJson(world.io, { ...settings, engine: { kind: engine.kind, endpoints } });
  else world.io.stdout(`${settings.hostId}\n`);
  const { namespace } = world.kernel;
  const socket = socketPath(world.directories.run, BigInt(namespace.ino));
  if (statSync(socket, { throwIfNoEntry: false })?.isSocket() !== true)
    world.io.stderr(
      "netctl: warning: netd does not run here: nothing follows the cluster until it is started (docs/netd.md)\n",
    );
  return ExitCode.Ok;
}

export const registerClusterLeave: Register = (parent, invoke) => {
  parent
    .command("leave")
    .summary("End this host's membership")
    .description(
      "End this host's membership. Refused while containers here are attached to the cluster's networks.",
    )
    .option("-f, --force", "leave although containers are attached")
    .action((flags: { readonly force?: boolean }, command) =>
      invoke(command, async (world) => {
        const settings = requireMembership(world);
        const used = (readOverlayStatus(world.directories.run)?.networks ?? []).filter((network) =>
          world.journal.list(network.name).some((record) => record.phase !== "torn"),
        );
        if (used.length > 0 && flags.force !== true)
          throw new Failure(
            `Cannot leave cluster ${settings.cluster}: containers of this host are in ${used.map(({ name }) => name).join(", ")}`,
          );
        await leaveCluster(world, settings.hostId);
        world.io.stdout(`${settings.cluster}\n`);
        return ExitCode.Ok;
      }),
    );
};

/** The agent ends its session when the settings go; only then may the host's addresses be anybody's. */
async function leaveCluster(world: World, hostId: string): Promise<void> {
  let left = false;
  try {
    await withCluster(world, async (cluster, engine) => {
      forgetMembership(world);
      left = true;
      for (let attempt = 0; attempt < 100 && (await engine.read(cluster.keys.live(hostId))); attempt++)
        await sleep(100);
      await cluster.removeHost(hostId);
    });
  } catch (error) {
    if (!left) throw error;
    world.io.stderr(
      `netctl: warning: ${String(error)}; "netctl cluster host rm ${hostId}" on another host does the rest\n`,
    );
  }
}

export const registerClusterAdopt: Register = (parent, invoke) => {
  parent
    .command("adopt")
    .summary("Write the cluster back into an engine that has lost it")
    .description(
      "Write the cluster back into an engine that was emptied or restored from an old copy, as this host knew it last. From then on all hosts believe the engine again; nothing is taken down meanwhile. Refused where the engine is believed, or has another cluster.",
    )
    .option("--json", "print JSON")
    .action((flags: { readonly json?: boolean }, command) =>
      invoke(command, async (world) => {
        const directory = overlayDirectory(world.directories.state);
        const known = new KnownFile(directory, "known.json").load();
        const adopted = await withCluster(
          world,
          async ({ keys }, engine, { uuid }) =>
            await adopt(engine, keys, uuid, known ?? { revision: 0, entries: [] }),
        );
        if (flags.json === true) writeJson(world.io, adopted);
        else
          world.io.stdout(
            `wrote ${adopted.created} entries, put ${adopted.replaced} right and removed ${adopted.removed}\n`,
          );
        return ExitCode.Ok;
      }),
    );
};

export const registerClusterStatus: Register = (parent, invoke) => {
  parent
    .command("status")
    .summary("Show how this host and its cluster are")
    .description(
      "Show this host's agent, the engine, and the cluster's networks. Exit code 1 if something is wrong.",
    )
    .option("--json", "print JSON")
    .action((flags: { readonly json?: boolean }, command) =>
      invoke(command, async (world) => {
        const settings = requireMembership(world);
        const agent = readOverlayStatus(world.directories.run);
        const isThere = agent !== undefined && agent.ageMs < 10_000;
        const engine = await withCluster(world, (_cluster, opened) => opened.status());
        const problems = [
          ...(isThere
            ? agent.problems
            : ["netd's agent does not run here: nothing follows the cluster, what is forwarded stays"]),
          ...engine.problems,
        ];
        if (flags.json === true) {
          writeJson(world.io, {
            cluster: settings.cluster,
            hostId: settings.hostId,
            agent: isThere ? agent : null,
            engine,
            problems,
          });
        } else {
          const rows = (agent?.networks ?? []).map(({ name, vni, subnets, blocks, mtu, state }) => [
            name,
            String(vni),
            subnets.join(", "),
            blocks.join(", ") || "-",
            String(mtu),
            state,
          ]);
          const state = !isThere
            ? "not running"
            : agent.connected
              ? `connected, revision ${agent.revision}`
              : `engine away for ${Math.round(agent.awayMs / 1000)} s`;
          world.io.stdout(
            `cluster  ${settings.cluster}\nhost     ${settings.hostId} (${settings.name})\nagent    ${state}\nengine   ${engine.isReadOnly ? "read-only" : "writable"}, revision ${engine.revision}\n`,
          );
          if (rows.length > 0)
            world.io.stdout(
              `\n${renderTable(["NETWORK", "VNI", "SUBNETS", "BLOCKS HERE", "MTU", "STATE"], rows)}`,
            );
          for (const problem of problems) world.io.stderr(`netctl: ${problem}\n`);
        }
        return problems.length === 0 ? ExitCode.Ok : ExitCode.Failure;
      }),
    );
};

export const registerClusterHosts: Register = (parent, invoke) => {
  const host = parent.command("host").summary("Show and remove hosts").description("Hosts of the cluster.");
  host
    .command("ls")
    .alias("list")
    .description("List the hosts of the cluster, with the addresses that each hands out.")
    .option("--json", "print JSON")
    .action((flags: { readonly json?: boolean }, command) =>
      invoke(command, async (world) => {
        const rows = await withCluster(world, async ({ keys }, engine) => {
          const { entries } = await engine.list(keys.prefix);
          const live = new Set(entries.map(({ key }) => key));
          const blocks = entries
            .filter(({ key }) => key.startsWith(keys.blocks))
            .map(({ key, value }) => readBlock(key, value));
          return entries
            .filter(({ key }) => key.startsWith(keys.hosts))
            .map(({ key, value }) => readHost(key, value))
            .map((record) => ({
              id: record.id,
              name: record.name,
              underlay: [record.underlay.v4, record.underlay.v6]
                .filter((ip) => ip !== undefined)
                .map(formatIp),
              mtu: record.mtu,
              isLive: live.has(keys.live(record.id)),
              blocks: blocks.filter((block) => block.host === record.id).map(({ cidr }) => formatCidr(cidr)),
            }));
        });
        if (flags.json === true) writeJson(world.io, rows);
        else {
          const cells = rows.map(({ id, name, underlay, mtu, isLive, blocks }) => [
            id,
            name,
            underlay.join(", "),
            String(mtu),
            isLive ? "yes" : "no",
            String(blocks.length),
          ]);
          world.io.stdout(renderTable(["HOST ID", "NAME", "UNDERLAY", "MTU", "LIVE", "BLOCKS"], cells));
        }
        return ExitCode.Ok;
      }),
    );
  host
    .command("rm")
    .alias("remove")
    .description(
      "Remove a host that will not come back, with its addresses. Refused while it is live. Should it come back, it gets other addresses for what it starts then.",
    )
    .argument("<id...>", "ids of hosts")
    .action((ids: readonly string[], _flags: object, command) =>
      invoke(command, async (world) => {
        for (const id of ids) {
          await withCluster(world, (cluster) => cluster.removeHost(id));
          world.io.stdout(`${id}\n`);
        }
        return ExitCode.Ok;
      }),
    );
};
