import { describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { CniResult } from "#cni/result.ts";
import { parseCidr } from "#net/cidr.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import type { PortRequest } from "./port-request.ts";
import { type MadeAttachment, planSandbox } from "./sandbox-plan.ts";

const defaults = { 4: parseCidr("0.0.0.0/0"), 6: parseCidr("::/0") } as const;

/** A network 10.NET.0.0/24 and fdNET::/64, with a default route for the families that are given. */
function made(
  network: string,
  net: number,
  more: {
    readonly ways?: readonly (4 | 6)[];
    readonly families?: readonly (4 | 6)[];
    readonly bridge?: JsonObject;
    readonly portmap?: JsonObject | null;
  } & Partial<MadeAttachment> = {},
): MadeAttachment {
  const { ways = [4, 6], families = [4, 6], bridge = {}, portmap = {}, ...rest } = more;
  const result: CniResult = {
    interfaces: [{ name: `br${net}` }, { name: `eth${net}`, sandbox: "/run/netns/a" }],
    ips: families.map((family) =>
      family === 4
        ? { interface: 1, address: parseCidr(`10.${net}.0.2/24`), gateway: parseIp(`10.${net}.0.1`) }
        : { interface: 1, address: parseCidr(`fd0${net}::2/64`), gateway: parseIp(`fd0${net}::1`) },
    ),
    routes: ways.map((family) => ({ dst: defaults[family] })),
    dns: {},
  };
  const publisher = { type: "portmap", capabilities: { portMappings: true }, ...portmap };
  const plugins = [{ type: "bridge", ...bridge }, ...(portmap === null ? [] : [publisher])];
  return { network, ifName: `eth${net}`, priority: 0, plugins, result, ...rest };
}

const gateways = (...attachments: readonly MadeAttachment[]) => {
  const { links } = planSandbox(attachments, []).routes;
  const of = (family: 4 | 6) => links.find(({ gatewayOf }) => gatewayOf.includes(family))?.ifName;
  return [of(4), of(6)];
};

const port = (more: Partial<PortRequest> = {}): PortRequest => ({
  protocol: "tcp",
  containerPort: 80,
  hostPort: 8080,
  ...more,
});
const web = { protocol: "tcp", hostPort: 8080, containerPort: 80 };

describe("the default gateway", () => {
  it("is that of the first name, whatever the order", () => {
    expect(gateways(made("b", 1), made("a", 2))).toEqual(["eth2", "eth2"]);
    expect(gateways(made("a", 2), made("b", 1))).toEqual(["eth2", "eth2"]);
  });

  it("is that of the highest priority; negative ones come last", () => {
    expect(gateways(made("a", 1), made("b", 2, { priority: 1 }))).toEqual(["eth2", "eth2"]);
    expect(gateways(made("a", 1, { priority: -1 }), made("b", 2))).toEqual(["eth2", "eth2"]);
  });

  it("is an internal network's only where nobody else has one", () => {
    const internal = { bridge: { internal: true } };
    expect(gateways(made("a", 1, internal), made("b", 2))).toEqual(["eth2", "eth2"]);
    expect(gateways(made("a", 1, { ...internal, ways: [] }))).toEqual([undefined, undefined]);
  });

  it("is chosen for each family on its own, among those that have a default route of it", () => {
    expect(gateways(made("a", 1, { ways: [4] }), made("b", 2, { ways: [6] }))).toEqual(["eth1", "eth2"]);
    expect(gateways(made("a", 1, { ways: [] }), made("b", 2))).toEqual(["eth2", "eth2"]);
  });

  it("is never that of an attachment that is about to go", () => {
    expect(gateways(made("a", 1, { isLeaving: true }), made("b", 2))).toEqual(["eth2", "eth2"]);
  });

  it("comes with the gateway's address, where the route itself does not say it", () => {
    const [link] = planSandbox([made("a", 1)], []).routes.links;
    expect(link?.routes.map(({ gw }) => gw && formatIp(gw))).toEqual(["10.1.0.1", "fd01::1"]);
  });
});

describe("published ports", () => {
  const mappings = (attachments: readonly MadeAttachment[], ...ports: readonly PortRequest[]) =>
    planSandbox(attachments, ports).portMappings;

  it("are at the network with the gateway", () => {
    expect(mappings([made("b", 1), made("a", 2)], port())).toEqual([[], [web]]);
  });

  it("are split where the families' gateways are two", () => {
    const both = [made("a", 1, { ways: [4] }), made("b", 2, { ways: [6] })];
    expect(mappings(both, port())).toEqual([[{ ...web, hostIP: "0.0.0.0" }], [{ ...web, hostIP: "::" }]]);
    const single = [made("a", 1, { families: [4], ways: [4] }), made("b", 2)];
    expect(mappings(single, port())).toEqual([[web], [{ ...web, hostIP: "::" }]]);
    expect(mappings(both, port({ hostIp: "2001:db8::1" }))).toEqual([
      [],
      [{ ...web, hostIP: "2001:db8::1" }],
    ]);
  });

  it("keep to a network's default binding where they are split", () => {
    const bound = { portmap: { hostBinding: { ipv4: "127.0.0.1" } } };
    const both = [made("a", 1, { ways: [4], ...bound }), made("b", 2, { ways: [6], ...bound })];
    expect(mappings(both, port())).toEqual([[{ ...web, hostIP: "127.0.0.1" }], []]);
  });

  it("are at every routed network too", () => {
    const routed = { bridge: { gatewayMode: { ipv4: "routed", ipv6: "routed" } } };
    expect(mappings([made("b", 1, routed), made("a", 2)], port())).toEqual([[web], [web]]);
  });

  it("are nowhere without a gateway, a publisher, or a port of the host", () => {
    expect(planSandbox([made("a", 1, { ways: [] })], [port()])).toMatchObject({ unpublished: [port()] });
    expect(planSandbox([made("a", 1, { portmap: null })], [port()])).toMatchObject({ unpublished: [port()] });
    const open: PortRequest = { protocol: "tcp", containerPort: 80 };
    expect(mappings([made("a", 1)], open)).toEqual([[]]);
    expect(planSandbox([made("a", 1)], [port()]).unpublished).toEqual([]);
  });
});
