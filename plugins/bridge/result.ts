import type { CniResult } from "#cni/result.ts";
import { describeInterface } from "#plugins/container-link.ts";
import type { Attachment } from "./attachment.ts";
import type { RealisedLinks } from "./realise.ts";

/** What ADD answers: the bridge, the veth's end in the host, the container's interface, and the VLAN's gateway. */
export function describeResult(attachment: Attachment, links: RealisedLinks, sandbox: string): CniResult {
  const { bridge, hostVeth, container, vlanGateway } = links;
  return {
    interfaces: [
      describeInterface(bridge),
      describeInterface(hostVeth),
      describeInterface(container, sandbox),
      ...(vlanGateway ? [describeInterface(vlanGateway)] : []),
    ],
    ips: attachment.ips,
    routes: attachment.routes,
    dns: attachment.dns,
  };
}
