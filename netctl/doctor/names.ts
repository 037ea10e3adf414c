import { readFile } from "node:fs/promises";
import { findRoute } from "#kernel/route.ts";
import { formatIp, type IpAddress, isLoopback, tryParseIp } from "#net/ip.ts";
import { callNetd } from "#netd/client.ts";
import { namesRequestName } from "#netd/protocol.ts";
import type { DoctorContext } from "./context.ts";
import type { Check, Finding } from "./finding.ts";

/** Where netd answers in every container of a network with names. */
const resolver = "127.0.0.11";
const timeoutMs = 10_000;

/** Whether somebody answers containers that ask for names, and whom it asks in turn. */
export const names: Check = {
  id: "names",
  summary: "whether somebody answers the containers' questions for names, and has somebody to ask",
  async run(context) {
    const asking = context.records.filter(({ plugin, phase }) => plugin === "dns" && phase === "done");
    if (asking.length === 0) return [];
    return [...(await unanswered(asking.length, context)), ...(await servers(context))];
  },
};

async function unanswered(count: number, { world }: DoctorContext): Promise<readonly Finding[]> {
  const { directories, environment } = world;
  const stdin = JSON.stringify({ op: "list" });
  try {
    await callNetd({ runDirectory: directories.run, environment, name: namesRequestName, stdin, timeoutMs });
    return [];
  } catch (error) {
    return [
      {
        id: "names-unanswered",
        severity: "error",
        subject: resolver,
        evidence: `${count} interfaces of containers ask ${resolver} for names, and no netd answers there: ${error instanceof Error ? error.message : String(error)}`,
        remedy:
          "systemctl start netctl-netd.socket (deploy/systemd); without systemd the next ADD starts netd",
      },
    ];
  }
}

async function servers({ world, host }: DoctorContext): Promise<readonly Finding[]> {
  const path = world.environment["NETCTL_RESOLV_CONF"] || "/etc/resolv.conf";
  const text = await readFile(path, "utf8").catch(() => "");
  const addresses = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap(
    ([, word = ""]) => tryParseIp(word) ?? [],
  );
  if (addresses.length === 0) {
    return [
      {
        id: "names-no-server",
        severity: "warning",
        subject: path,
        evidence: `${path} names no server: containers find each other, and nobody else`,
        remedy: `write "nameserver ADDRESS" into ${path}, or give containers servers of their own (--dns)`,
      },
    ];
  }
  const isLoop = addresses.some((address) => formatIp(address) === resolver);
  const unreachable = addresses.flatMap((address) => reasonOf(address, host));
  return [
    ...(isLoop
      ? [
          {
            id: "names-loop",
            severity: "error" as const,
            subject: path,
            evidence: `${path} names ${resolver}, where on this host nobody answers: it is the containers' own`,
            remedy: `write the address of a real server into ${path}`,
          },
        ]
      : []),
    ...unreachable.map(
      ([address, reason]): Finding => ({
        id: "names-server-unreachable",
        severity: unreachable.length === addresses.length ? "error" : "warning",
        subject: path,
        evidence: `${path} names ${address}, to which this host has no way: ${reason}`,
        remedy: `ip route get ${address} says why; or name another server in ${path}`,
      }),
    ),
  ];
}

function reasonOf(address: IpAddress, host: DoctorContext["host"]): readonly (readonly [string, string])[] {
  if (isLoopback(address)) return [];
  const answer = findRoute(host, { destination: address });
  return answer.found ? [] : [[formatIp(address), answer.reason]];
}
