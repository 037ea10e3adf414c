import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeDirectory } from "#machine/make-directory.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { formatCidr } from "#net/cidr.ts";
import type { NetworkRecord } from "./record.ts";

/** How a conflist says that it is of a network of a cluster, under the key `netctl`. */
interface OverlayNotes {
  readonly overlay?: { readonly cluster?: string; readonly id?: string };
}

/** The conflist by which runtimes of every host use a network of the cluster; the same text on each. */
export function renderOverlayConflist(record: NetworkRecord, clusterUuid: string): string {
  const subnets = record.subnets.map(({ cidr }) => ({ subnet: formatCidr(cidr), auxAddresses: {} }));
  const conflist = {
    cniVersion: "1.0.0",
    cniVersions: ["1.0.0", "1.1.0"],
    name: record.name,
    netctl: {
      driver: "overlay-vxlan",
      labels: {},
      options: optionsOf(record),
      ownsBridge: false,
      internal: record.internal,
      subnets,
      overlay: { cluster: clusterUuid, id: record.id },
    },
    plugins: [
      { type: "overlay-vxlan", capabilities: { mac: true, ips: true } },
      ...(record.names === "none"
        ? []
        : [
            {
              type: "dns",
              ...(record.internal ? { internal: true } : {}),
              capabilities: { aliases: true, dns: true },
            },
          ]),
      ...(record.internal ? [] : [{ type: "portmap", capabilities: { portMappings: true } }]),
    ],
  };
  return `${JSON.stringify(conflist, undefined, 2)}\n`;
}

/** As `network create -o` takes them; those with their default are left out. */
function optionsOf({ mode, encrypted, mtu, names, vni }: NetworkRecord): Readonly<Record<string, string>> {
  return {
    ...(mode === "l2" ? { mode } : {}),
    ...(encrypted ? { encrypted: "true" } : {}),
    ...(mtu === undefined ? {} : { mtu: String(mtu) }),
    ...(names === "host" ? { names } : {}),
    vni: String(vni),
  };
}

/**
 * Makes the conflists of a directory those of the cluster's networks: writes what is missing, whole or not at all, and
 * removes those of networks that have gone. A file that is there stays as the operator has made it; one of the same
 * name that is of no cluster is never touched.
 * @returns what was done, in words
 */
export function keepConflists(
  directory: string,
  networks: readonly NetworkRecord[],
  clusterUuid: string,
): readonly string[] {
  const done: string[] = [];
  makeDirectory(directory, 0o755);
  const byId = new Map(networks.map((record) => [record.id, record]));
  const present = new Set<string>();
  for (const file of readdirSync(directory)) {
    if (!file.endsWith(".conflist")) continue;
    const notes = readNotes(join(directory, file));
    if (notes?.cluster !== clusterUuid || notes.id === undefined) continue;
    if (byId.get(notes.id)?.state === "active") {
      present.add(notes.id);
    } else if (!byId.has(notes.id)) {
      rmSync(join(directory, file), { force: true });
      done.push(`removed ${file}`);
    }
  }
  for (const record of networks) {
    const path = join(directory, `${record.name}.conflist`);
    if (record.state !== "active" || present.has(record.id) || existsSync(path)) continue;
    replaceFile(path, renderOverlayConflist(record, clusterUuid), 0o644);
    done.push(`wrote ${record.name}.conflist`);
  }
  return done;
}

function readNotes(path: string): OverlayNotes["overlay"] {
  try {
    const { netctl } = JSON.parse(readFileSync(path, "utf8")) as { netctl?: OverlayNotes };
    return netctl?.overlay;
  } catch {
    return undefined;
  }
}
