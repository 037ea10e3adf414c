import { readAllRoutes } from "#kernel/route.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import { isDefaultRoute } from "#net/cidr.ts";
import { bridgesIn } from "./context.ts";
import type { Check, Finding } from "./finding.ts";

/** net.ipv4.conf.IF.rp_filter: the larger of `all` and the interface's counts (ip-sysctl.rst). */
const strict = 1;

/** With one way out, strict filtering drops nothing that is meant to pass; with several it drops half of it. */
export const reversePath: Check = {
  id: "reverse-path",
  summary: "strict reverse path filtering on a host with several ways out",
  run(context) {
    const { host, links } = context;
    if (bridgesIn(context).length === 0) return [];
    const all = Number(readSysctl(host, "net/ipv4/conf/all/rp_filter") ?? 0);
    const uplinks = new Set(
      readAllRoutes(host)
        .filter(({ family, destination }) => family === 4 && (!destination || isDefaultRoute(destination)))
        .flatMap(({ ifindex, nextHops }) => [ifindex, ...(nextHops ?? []).map((hop) => hop.ifindex)])
        .filter((ifindex) => ifindex !== undefined),
    );
    if (uplinks.size < 2) return [];
    return links
      .filter(({ ifindex }) => uplinks.has(ifindex))
      .filter(({ name }) => {
        const own = Number(readSysctl(host, `net/ipv4/conf/${name}/rp_filter`) ?? 0);
        return Math.max(all, own) === strict;
      })
      .map(
        ({ name }): Finding => ({
          id: "reverse-path-strict",
          severity: "warning",
          subject: name,
          evidence: `${name} is one of ${uplinks.size} ways out, and its reverse path filter is strict: packets to published ports that come by another way than the answer would leave by are dropped`,
          remedy: `sysctl -w net.ipv4.conf.${name}.rp_filter=2${all === strict ? " net.ipv4.conf.all.rp_filter=0" : ""}`,
        }),
      );
  },
};
