import { listLinks } from "#kernel/link.ts";
import { describeError } from "#netctl/failure.ts";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { readOverlayStatus } from "#overlay/status-file.ts";
import type { Check, Finding } from "./finding.ts";
import { overlayKernel } from "./overlay-kernel.ts";
import { tryWays } from "./overlay-ways.ts";

/** The agent says every second how it is. */
const silentAfterMs = 10_000;
const awayAfterMs = 5000;
/** What VXLAN over IPv4 adds, the least of all. */
const overheadBytes = 50;

/** Networks over several hosts: the agent, the engine, and what the underlay leaves. */
export const overlay: Check = {
  id: "overlay",
  summary:
    "networks over several hosts: agent, engine, MTUs, and the ways to the other hosts, by trying them",
  async run({ world, host }) {
    if (!readHostSettings(overlayDirectory(world.directories.state))) return [];
    const agent = readOverlayStatus(world.directories.run);
    if (!agent || agent.ageMs > silentAfterMs)
      return [
        {
          id: "overlay-agent",
          severity: "error",
          subject: "netd",
          evidence:
            "this host is a member of a cluster, and netd's agent does not run: nothing follows the cluster",
          remedy: "start netd: docs/netd.md",
        },
        ...(await overlayKernel(world, { isKept: false })),
      ];
    const findings: Finding[] = [];
    if (agent.distrust)
      findings.push({
        id: "overlay-distrust",
        severity: "error",
        subject: "",
        evidence: `nothing of the engine is believed: ${agent.distrust.reason}: what is forwarded stays, and no more addresses come`,
        remedy: agent.distrust.remedy,
      });
    else if (!agent.connected && agent.awayMs > awayAfterMs)
      findings.push({
        id: "overlay-engine",
        severity: "warning",
        subject: "",
        evidence: `the engine has been away for ${Math.round(agent.awayMs / 1000)} s: what is forwarded stays, and no more addresses come`,
        remedy: "netctl cluster status names the endpoints that do not answer",
      });
    const { distrust } = agent;
    const problems = agent.problems.filter((each) => !distrust || !each.includes(distrust.reason));
    for (const evidence of problems)
      findings.push({
        id: "overlay-problem",
        severity: "warning",
        subject: "",
        evidence,
        remedy: "netctl cluster status, and docs/overlay.md",
      });
    const links = listLinks(host);
    for (const { name, mtu, tunnels } of agent.networks) {
      const widest = Math.max(0, ...links.filter((link) => link.kind !== "vxlan").map((link) => link.mtu));
      if (tunnels.length > 0 && mtu + overheadBytes > widest)
        findings.push({
          id: "overlay-mtu",
          severity: "error",
          subject: name,
          evidence: `containers of network ${name} send up to ${mtu} bytes, and no device of this host takes the ${mtu + overheadBytes} that come of it`,
          remedy: "raise the underlay's MTU, or create the network with -o mtu=N",
        });
    }
    const wrong = await overlayKernel(world, { isKept: true });
    findings.push(...wrong);
    if (agent.connected)
      findings.push(
        ...(await tryWays(world, host, {
          agent,
          // What stops packets there is known already.
          except: new Set(wrong.map(({ subject }) => subject)),
        }).catch((error: unknown): Finding[] => [
          {
            id: "overlay-ways-untried",
            severity: "warning",
            subject: "",
            evidence: `cannot try the ways to the other hosts: ${describeError(error)}`,
            remedy: "run it as root, with ping installed, where the engine answers",
          },
        ])),
      );
    return findings;
  },
};
