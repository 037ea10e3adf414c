import { readDefaultRouteLink } from "#kernel/default-route.ts";
import type { Check, Finding } from "./finding.ts";

/**
 * Packets that are longer than the way out takes are cut up or dropped, with a message to the sender that firewalls like
 * to drop: short answers come, long ones never do.
 */
export const mtu: Check = {
  id: "mtu",
  summary: "networks whose packets are longer than the host's way out takes",
  run({ host, networks, links }) {
    const uplink = readDefaultRouteLink(host);
    if (uplink === undefined) return [];
    return networks.flatMap(({ name, bridges, notes }): readonly Finding[] => {
      if (notes?.internal === true) return [];
      return links
        .filter((link) => link.kind === "bridge" && bridges.includes(link.name) && link.name !== uplink.name)
        .filter((link) => link.mtu > uplink.mtu)
        .map((link) => ({
          id: "mtu-above-uplink",
          severity: "warning",
          subject: name,
          evidence: `packets of network ${name} have up to ${link.mtu} bytes (${link.name}), and ${uplink.name}, the way out, takes ${uplink.mtu}: long answers stall where messages of ICMP are dropped`,
          remedy: `make the network anew with "-o com.docker.network.driver.mtu=${uplink.mtu}"; for the moment: nft add table inet clamp; nft add chain inet clamp forward '{ type filter hook forward priority -150; }'; nft add rule inet clamp forward oifname ${uplink.name} tcp flags syn tcp option maxseg size set rt mtu`,
        }));
    });
  },
};
