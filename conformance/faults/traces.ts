import { runTool } from "#conformance/command.ts";
import { expectEqual } from "#conformance/failure.ts";
import type { Namespace } from "#conformance/namespace.ts";
import type { PrintedResult } from "#conformance/printed-result.ts";

/** What `tuning` is told to set. */
export const tuned = { sysctl: "net.ipv4.ip_unprivileged_port_start", value: "80", mtu: 1400 } as const;

interface Place {
  readonly host: Namespace;
  readonly container: { readonly firstPort: number; readonly namespace: Namespace };
  /** Whether the container is attached. */
  readonly isLive: boolean;
  readonly result: PrintedResult | undefined;
}

/** Which device `host-device` lends to a container. Its other end stays on the host. */
export function deviceOf({ firstPort }: Pick<Place["container"], "firstPort">): string {
  return `hd${firstPort}`;
}

export function isDevice(name: string): boolean {
  return /^hd\d+p?$/.test(name);
}

/** Of plugins that leave something which is no link, no lease and no element: that it is there, or that it is not. */
export const traces: Readonly<Partial<Record<string, (place: Place) => Promise<void>>>> = {
  async tuning({ container: { namespace }, isLive }) {
    const path = `/proc/sys/${tuned.sysctl.replaceAll(".", "/")}`;
    const value = await inside(namespace, "cat", path);
    expectEqual(value.trim(), isLive ? tuned.value : "1024", tuned.sysctl);
    if (!isLive) return;
    const link = await inside(namespace, "ip", "-o", "link", "show", "eth0");
    expectEqual(/ mtu (\d+) /.exec(link)?.[1], String(tuned.mtu), "MTU of eth0");
  },

  async sbr({ container: { namespace }, isLive, result }) {
    const rules = [await inside(namespace, "ip", "rule"), await inside(namespace, "ip", "-6", "rule")].join(
      "",
    );
    const sources = [...rules.matchAll(/from (\S+)/g)].flatMap(([, source = ""]) =>
      source === "all" ? [] : [source],
    );
    const addresses = isLive ? (result?.ips.map(({ ip }) => ip) ?? []) : [];
    expectEqual([...new Set(sources)].sort(), [...addresses].sort(), "sources that have rules");
  },

  async bandwidth({ host, isLive, result }) {
    for (const { name } of isLive ? (result?.interfaces.filter(({ sandbox }) => sandbox === "") ?? []) : []) {
      if (!/^(veth|bwp)/.test(name)) continue;
      const disciplines = await inside(host, "tc", "qdisc", "show", "dev", name);
      expectEqual(disciplines.includes("qdisc tbf"), true, `a token bucket on ${name}`);
    }
  },

  async "host-device"({ host, container, isLive }) {
    const links = await inside(host, "ip", "-o", "link");
    const device = deviceOf(container);
    expectEqual(links.includes(` ${device}@`), !isLive, `whether ${device} is on the host`);
  },
};

async function inside(namespace: Namespace, ...words: readonly string[]): Promise<string> {
  return await runTool("/usr/bin/nsenter", [`--net=${namespace.path}`, ...words]);
}
