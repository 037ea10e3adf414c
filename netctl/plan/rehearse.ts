import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type NetworkList, readConfList } from "#cni/conflist.ts";
import { findPlugin } from "#cni/find-plugin.ts";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { CniResult } from "#cni/result.ts";
import { changeLink } from "#kernel/link.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { parseIfName } from "#net/ifname.ts";
import { Failure } from "#netctl/failure.ts";
import { pluginFacts } from "#netctl/lint/facts.ts";
import type { World } from "#netctl/world.ts";
import { ResultCache } from "#runtime/cache.ts";
import { addNetworkList, type ChainHost } from "#runtime/chain.ts";
import type { AttachmentTarget } from "#runtime/plugin-call.ts";
import { enterCommand } from "#runtime/sandbox-enter.ts";
import { ScratchNamespaces } from "#runtime/scratch-namespace.ts";
import type { Change } from "./ip-text.ts";
import { mirrorHost } from "./mirror.ts";
import { takeSnapshot } from "./snapshot.ts";

export interface Rehearsal {
  readonly change: Change;
  readonly result: CniResult;
  /** Path of the stand-in for the container's namespace, as the result names it. */
  readonly containerPath: string;
}

/** What can't be tried: it acts on something that no namespace has a copy of. */
const unrehearsed: ReadonlyMap<string, string> = new Map([
  ["dhcp", "the address is a server's to give, on a wire that a rehearsal is not on"],
  ["overlay-vxlan", "the addresses are those of the cluster"],
  ["host", "it makes nothing: the container has the host's network"],
]);

/**
 * Has the plugins carry out an ADD, in namespaces and directories that are like the host's and are thrown away: what
 * they do there is what they would do here, since they are the same programs with the same configuration. The host is
 * only read.
 * @throws {Failure} it can't be tried
 * @throws {ChainFailure} the ADD fails, as it would on the host
 */
export async function rehearse(
  list: NetworkList,
  target: Omit<AttachmentTarget, "netns">,
  world: World,
): Promise<Rehearsal> {
  refuseUnknown(list);
  makeDirectory(world.directories.run, 0o755);
  const directory = await mkdtemp(join(world.directories.run, "plan-"));
  const namespaces = new ScratchNamespaces(directory);
  try {
    return await onStage(list, target, world, directory, namespaces);
  } finally {
    await endNetd(join(directory, "run"));
    namespaces.removeAll();
    await rm(directory, { recursive: true, force: true });
  }
}

async function onStage(
  list: NetworkList,
  target: Omit<AttachmentTarget, "netns">,
  world: World,
  directory: string,
  namespaces: ScratchNamespaces,
): Promise<Rehearsal> {
  const paths = {
    stage: namespaces.create("host"),
    aside: namespaces.create("aside"),
    container: namespaces.create("container"),
  };
  const stage = world.kernel.open(paths.stage);
  const aside = world.kernel.open(paths.aside);
  const container = world.kernel.open(paths.container);
  try {
    await mirrorHost(world.kernel.namespace, stage, aside);
    // As a runtime does, whatever the network.
    changeLink(container, parseIfName("lo"), { up: true });
    const keys = sysctlsOf(list);
    const hostBefore = await takeSnapshot(stage, keys);
    const containerBefore = await takeSnapshot(container, keys);
    const host = await stageHost(list, paths.stage, directory, world);
    const result = await addNetworkList(
      await withOwnDirectories(list, directory, world),
      { ...target, netns: paths.container },
      host,
    );
    return {
      change: {
        hostBefore,
        containerBefore,
        hostAfter: await takeSnapshot(stage, keys),
        containerAfter: await takeSnapshot(container, keys),
      },
      result,
      containerPath: paths.container,
    };
  } finally {
    for (const namespace of [stage, aside, container]) namespace.close();
  }
}

/** Programs of which nothing is known may talk to a daemon, or to a cloud. */
function refuseUnknown({ plugins }: NetworkList): void {
  for (const { type, json } of plugins) {
    const ipam = field(json, "ipam");
    const delegate = isJsonObject(ipam) ? field(ipam, "type") : undefined;
    for (const each of [type, ...(typeof delegate === "string" && delegate !== "" ? [delegate] : [])]) {
      const reason = unrehearsed.get(each);
      if (reason !== undefined) throw new Failure(`Cannot plan an ADD of ${each}: ${reason}`);
      if (!pluginFacts.has(each)) {
        throw new Failure(
          `Cannot plan an ADD of ${each}: what that program does is not known here, so it was not run`,
        );
      }
    }
  }
}

/** Sysctls that the configuration names: tuning's. */
function sysctlsOf({ plugins }: NetworkList): readonly string[] {
  return plugins.flatMap(({ json }) => {
    const sysctls = field(json, "sysctl");
    if (!isJsonObject(sysctls)) return [];
    return Object.keys(sysctls).map((key) => (key.includes("/") ? key : key.replaceAll(".", "/")));
  });
}

/** The plugins' executables, each started on the stage, with directories of its own. */
async function stageHost(
  list: NetworkList,
  netns: string,
  directory: string,
  world: World,
): Promise<ChainHost> {
  const bin = join(directory, "bin");
  await mkdir(bin);
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  for (const type of new Set(list.plugins.flatMap(({ type, json }) => [type, ...delegateOf(json)]))) {
    const { file, args } = enterCommand({ name: "plan", netns }, directory, [
      findPlugin(type, world.chain.path),
    ]);
    const words = [file, ...args].map(quote).join(" ");
    await writeFile(join(bin, type), `#!/bin/sh\nexec ${words}\n`, { mode: 0o755 });
  }
  const environment = {
    ...world.environment,
    NETCTL_STANDALONE: "1",
    NETCTL_CONF_DIR: join(directory, "conf"),
    NETCTL_STATE_DIR: join(directory, "state"),
    NETCTL_RUN_DIR: join(directory, "run"),
    NETCTL_NETD_CGROUP: "none",
    // firewalld is the host's: there is no copy of it.
    DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${join(directory, "no-bus")}`,
  };
  const { runner, signal } = world.chain;
  return {
    runner,
    path: [bin],
    environment,
    cache: new ResultCache(join(directory, "results")),
    ...(signal === undefined ? {} : { signal }),
  };
}

function delegateOf(json: JsonObject): readonly string[] {
  const ipam = field(json, "ipam");
  const type = isJsonObject(ipam) ? field(ipam, "type") : undefined;
  return typeof type === "string" && type !== "" ? [type] : [];
}

/** Leases are looked up and made in a copy of those that there are. */
async function withOwnDirectories(list: NetworkList, directory: string, world: World): Promise<NetworkList> {
  const leases = join(directory, "leases");
  await mkdir(leases);
  const plugins: JsonObject[] = [];
  for (const { type, json } of list.plugins) {
    const ipam = field(json, "ipam");
    let changed: JsonObject = json;
    if (isJsonObject(ipam) && field(ipam, "type") === "host-local") {
      const given = field(ipam, "dataDir");
      const source = join(
        typeof given === "string" && given !== "" ? given : world.directories.leases,
        list.name,
      );
      await cp(source, join(leases, list.name), { recursive: true }).catch(() => undefined);
      changed = { ...json, ipam: { ...ipam, dataDir: leases } };
    }
    plugins.push(type === "tuning" ? { ...changed, dataDir: join(directory, "tuning") } : changed);
  }
  return readConfList({ ...list.json, plugins, loadOnlyInlinedPlugins: true });
}

/** The one that answers names on the stage, if there is one: it would notice by itself, a second later. */
async function endNetd(run: string): Promise<void> {
  const files = await readdir(run).catch(() => []);
  for (const file of files.filter((name) => name.endsWith(".lock"))) {
    const pid = Number((await readFile(join(run, file), "utf8")).trim());
    if (!(pid > 1)) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
