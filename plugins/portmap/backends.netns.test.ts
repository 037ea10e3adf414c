import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";
import { ask, askOnce, type Question } from "#testing/traffic.ts";

let rig: PortRig;

beforeEach(() => {
  rig = new PortRig();
});

afterEach(async () => {
  await rig.close();
});

const lan4 = "192.0.2.1";
const lan6 = "2001:db8::1";
const web = { hostPort: 8080, containerPort: 80 };
const to = (address: string, port = 8080, protocol: "tcp" | "udp" = "tcp"): Question => ({
  protocol,
  to: address,
  port,
});
const check = async (attached: Published, mappings: readonly JsonObject[], fields: JsonObject) =>
  (await rig.portmap("CHECK", attached, { mappings, fields })).json;
/** The ruleset without the suite's own tables and without counters. */
const foreign = () =>
  rig.namespace
    .run("nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'")
    .split(/^(?=table )/mu)
    .filter((table) => !/^table \w+ netctl \{/u.test(table));

describe("conditions in nft's language", () => {
  const fields = { conditionsV4: ["ip", "saddr", "192.0.2.0/24"], conditionsV6: ["ip6 saddr", "fd00::/16"] };

  it("let through whom they let through, and the rules go with the container", async () => {
    const mappings = [web, { hostPort: 53, containerPort: 53, protocol: "udp" }];
    const attached = await rig.attach({ mappings, fields });
    await rig.serve(attached.container, "target", [80, 53]);
    expect(await ask(rig.lan, [to(lan4), to(lan4, 53, "udp"), to(lan6)])).toEqual([
      "target sees 192.0.2.2",
      "target sees 192.0.2.2",
      "ECONNREFUSED",
    ]);
    // By the conditions of IPv4, 127.0.0.1 is none of them; the host's own address is.
    expect(await ask(rig.namespace, [to("127.0.0.1"), to(lan4)])).toEqual([
      "ECONNREFUSED",
      "target sees 192.0.2.1",
    ]);
    expect(await askOnce(attached.container, to("fd00:1::1"))).toBe("target sees fd00:1::1");
    expect(await check(attached, mappings, fields)).toEqual({});
    expect(rig.elements().filter((element) => /port/.test(element))).toEqual([]);

    rig.namespace.run("nft flush chain ip $(nft list tables ip | cut -d' ' -f3 | grep netctl_ports) output");
    expect((await check(attached, mappings, fields))["msg"]).toMatch(
      /^table ip netctl_ports_[0-9a-f]{16} is damaged$/,
    );
    await rig.forget(attached.containerId);
    expect([foreign(), rig.elements()]).toEqual([[], []]);
  });

  it("may give one port to several containers", async () => {
    const one = await rig.attach({ mappings: [web], fields: { conditionsV4: ["ip saddr 192.0.2.2"] } });
    const fields = { conditionsV4: ["ip saddr 192.0.2.1"] };
    const two = await rig.attach({ mappings: [{ ...web, hostIP: "0.0.0.0" }], fields });
    await rig.serve(one.container, "one", [80]);
    await rig.serve(two.container, "two", [80]);
    expect(await askOnce(rig.lan, to(lan4))).toBe("one sees 192.0.2.2");
    expect(await askOnce(rig.namespace, to(lan4))).toBe("two sees 192.0.2.1");
    // IPv6 has none: there the first has the port.
    expect(rig.elements()).toContain(`ports6 tcp . 8080 : ${one.ip6} . 80`);
  });

  it("are refused where nft does not understand them, and nothing is left", async () => {
    const attached = await rig.attachOnly();
    for (const conditionsV4 of [
      ["ip", "sadr", "x"],
      ["ip saddr 10.0.0.0/8;", "flush ruleset"],
    ]) {
      const { json } = await rig.portmap("ADD", attached, { mappings: [web], fields: { conditionsV4 } });
      expect(json["code"]).toBe(7);
      expect(json["msg"]).toMatch(/^Cannot use portmap configuration: .*condition/);
    }
    expect([foreign(), rig.elements()]).toEqual([[], []]);
    expect(rig.host.journal.list().map(({ plugin }) => plugin)).toEqual(["bridge"]);
  });

  it("hold for ranges and addresses too", async () => {
    const range = Array.from({ length: 40 }, (_, n) => ({ hostPort: 9000 + n, containerPort: 9000 + n }));
    const mappings = [
      ...range,
      { ...web, hostIP: lan4 },
      { hostPort: 100, containerPort: 80, hostIP: "0.0.0.0" },
    ];
    const conditions = { conditionsV4: ["ip saddr 192.0.2.2"], conditionsV6: ["ip6 saddr 2001:db8::2"] };
    const attached = await rig.attach({ mappings, fields: conditions });
    await rig.serve(attached.container, "target", [80, 9039]);
    expect(
      await ask(rig.lan, [to(lan4), to(lan4, 100), to(lan4, 9039), to(lan6, 9039), to(lan6, 100)]),
    ).toEqual([
      "target sees 192.0.2.2",
      "target sees 192.0.2.2",
      "target sees 192.0.2.2",
      "target sees 2001:db8::2",
      "ECONNREFUSED",
    ]);
    expect(await check(attached, mappings, conditions)).toEqual({});
  });
});

describe("iptables, where it is insisted on", () => {
  const fields = { backend: "iptables", insistOnBackend: true };

  it("publishes by the reference's chains, which go with the container", async () => {
    const mappings = [
      web,
      { hostPort: 8081, containerPort: 81, hostIP: "127.0.0.1" },
      { hostPort: 9000, containerPort: 9000 },
      { hostPort: 9001, containerPort: 9001 },
      { hostPort: 9002, containerPort: 80, protocol: "udp" },
    ];
    const other = await rig.attach({ mappings: [{ hostPort: 7000, containerPort: 80 }], fields });
    const left = foreign();
    const attached = await rig.attach({ mappings, fields });
    await rig.serve(attached.container, "target", [80, 81, 9001]);
    expect(
      await ask(rig.lan, [to(lan4), to(lan6), to(lan4, 8081), to(lan4, 9001), to(lan4, 9002, "udp")]),
    ).toEqual([
      "target sees 192.0.2.2",
      "target sees 2001:db8::2",
      "ECONNREFUSED",
      "target sees 192.0.2.2",
      "target sees 192.0.2.2",
    ]);
    expect(await ask(rig.namespace, [to("127.0.0.1"), to("127.0.0.1", 8081)])).toEqual([
      "target sees 10.1.0.1",
      "target sees 10.1.0.1",
    ]);
    expect(await askOnce(attached.container, to(lan4))).toBe("target sees 10.1.0.1");
    expect(await askOnce(other.container, to(lan4))).toBe("target sees 10.1.0.1");
    expect(rig.elements()).toEqual([]);
    expect(await check(attached, mappings, fields)).toEqual({});

    const taken = await rig.portmap("ADD", await rig.attachOnly(), { mappings: [web], fields });
    expect(taken.json["code"]).toBe(100);

    rig.namespace.run("iptables -t nat -F CNI-HOSTPORT-DNAT");
    expect((await check(attached, mappings, fields))["msg"]).toContain(
      "missing: iptables -t nat -A CNI-HOSTPORT-DNAT",
    );
    await rig.portmap("ADD", other, { mappings: [{ hostPort: 7000, containerPort: 80 }], fields });
    await rig.forget(attached.containerId);
    expect(foreign()).toEqual(left);
  });

  it("keeps what is published on 127.0.0.1 from a neighbour with a crafted route", async () => {
    const mappings = [{ ...web, hostIP: "127.0.0.1" }];
    const { container } = await rig.attach({ mappings, fields });
    rig.namespace.run("nft delete table inet netctl");
    await rig.serve(container, "target", [80]);
    rig.lan.run(
      `ip addr flush dev lo; ip route add 127.0.0.1/32 via ${lan4}; sysctl -qw net.ipv4.conf.all.route_localnet=1`,
    );
    expect(await askOnce(rig.lan, to("127.0.0.1"))).toBe("silence");
    rig.namespace.run("iptables -t raw -F PREROUTING");
    expect(await askOnce(rig.lan, to("127.0.0.1"))).toBe("target sees 192.0.2.2");
  });

  it("serves conditions in its own language without being insisted on, masqAll and a mark of one's own", async () => {
    const conditions = { conditionsV4: ["-s", "192.0.2.2"], masqAll: true, markMasqBit: 5 };
    const attached = await rig.attach({ mappings: [{ ...web, hostIP: "0.0.0.0" }], fields: conditions });
    await rig.serve(attached.container, "target", [80]);
    expect(await askOnce(rig.lan, to(lan4))).toBe("target sees 10.1.0.1");
    expect(await askOnce(rig.namespace, to(lan4))).toBe("ECONNREFUSED");
    expect(rig.namespace.run("iptables -t nat -S CNI-HOSTPORT-SETMARK")).toContain("0x20/0x20");
    await rig.forget(attached.containerId);
    expect(rig.namespace.run("iptables -t nat -S")).not.toContain("CNI-DN-");
  });
});
