import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { isAnswered, isSilent } from "#testing/echo.ts";
import { advertiseNeighbor, advertiseRouter } from "#testing/neighbor-forgery.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";

let rig: PortRig;
let attacker: Published;
let victim: Published;
let third: Published;

beforeEach(() => {
  rig = new PortRig();
});
afterEach(() => rig.close());

async function attachAll(bridgeFields: JsonObject): Promise<void> {
  [attacker, victim, third] = [
    await rig.attach({ bridgeFields }),
    await rig.attach({ bridgeFields }),
    await rig.attach({ bridgeFields }),
  ];
}

/** Whether one echo request, from an address of the container's choice, is answered. */
const pings = (from: Published, to: string, source?: string) => isAnswered(from.container, to, source);
/** Whether it is not. */
const inVain = (from: Published, to: string, source?: string) => isSilent(from.container, to, source);

function mac({ container }: Published): string {
  return container.json<{ address: string }>("ip -j link show eth0")[0]?.address ?? "";
}

/** What `of` believes the MAC address of an address to be. */
function believes(of: Published, address: string): string {
  return /lladdr (\S+)/u.exec(of.container.run(`ip neigh show ${address} dev eth0`))?.[1] ?? "";
}

const digits = (ip6: string) => {
  const [head = "", tail = ""] = ip6.split("::");
  const groups = (text: string) => text.split(":").filter((each) => each !== "");
  const missing = 8 - groups(head).length - groups(tail).length;
  return [...groups(head), ...Array.from({ length: missing }, () => "0"), ...groups(tail)]
    .map((group) => group.padStart(4, "0"))
    .join("");
};

/** Takes the victim's addresses as well, and speaks for them. */
function impersonate(): void {
  attacker.container.run(
    `ip addr add ${victim.ip4}/24 dev eth0; ip addr add ${victim.ip6}/64 dev eth0 nodad`,
  );
}

describe("ipspoofchk", () => {
  it("lets the container's own traffic pass: both families, neighbours, host, and duplicate detection", async () => {
    await attachAll({ ipspoofchk: true, enabledad: true });
    for (const to of [victim.ip4, victim.ip6, "10.1.0.1", "fd00:1::1", "192.0.2.2"]) {
      expect(pings(attacker, to), to).toBe(true);
    }
    const peer = /inet6 (fe80\S+)\//u.exec(victim.container.run("ip -6 addr show dev eth0 scope link"))?.[1];
    expect(pings(attacker, `${peer}%eth0`)).toBe(true);
  });

  it.each([
    [true, "drops"],
    [false, "without it the kernel passes"],
  ])("%s: %s what the container sends as somebody else", async (ipspoofchk) => {
    await attachAll({ ipspoofchk });
    expect(pings(third, victim.ip4) && pings(third, victim.ip6)).toBe(true);
    impersonate();
    // What is asked for as the victim, in ARP and neighbour solicitations, is believed by whoever is asked.
    inVain(attacker, third.ip4, victim.ip4);
    inVain(attacker, third.ip6, victim.ip6);
    const [truth, lie] = [mac(victim), mac(attacker)];
    expect(believes(third, victim.ip4)).toBe(ipspoofchk ? truth : lie);
    expect(believes(third, victim.ip6)).toBe(ipspoofchk ? truth : lie);
    expect((ipspoofchk ? inVain : pings)(attacker, third.ip4, victim.ip4)).toBe(true);
    // Through the host as well.
    expect((ipspoofchk ? inVain : pings)(attacker, "192.0.2.2", victim.ip4)).toBe(true);
    // It still asks, as the victim, for who it could not reach.
    attacker.container.run("ip neigh flush all");
    expect(pings(attacker, third.ip4, attacker.ip4)).toBe(true);
    expect(pings(attacker, third.ip6, attacker.ip6)).toBe(true);
  });

  it.each([true, false])("%s: neighbour advertisements about others", async (ipspoofchk) => {
    await attachAll({ ipspoofchk });
    expect(pings(third, victim.ip6)).toBe(true);
    const claim = { target: digits(victim.ip6), mac: "020000000066" };
    advertiseNeighbor(attacker.container, third.ip6, claim);
    expect(pings(attacker, third.ip6)).toBe(true);
    expect(believes(third, victim.ip6)).toBe(ipspoofchk ? mac(victim) : "02:00:00:00:00:66");
  });

  it("checks the MAC address too", async () => {
    await attachAll({ ipspoofchk: true });
    attacker.container.run("ip link set eth0 address 02:00:00:00:00:66; ip neigh flush all");
    expect(inVain(attacker, third.ip4)).toBe(true);
  });

  it("goes with DEL", async () => {
    await attachAll({ ipspoofchk: true });
    const listing = () => rig.namespace.run("nft list table bridge netctl");
    expect(listing()).toContain("elements");
    for (const { containerId } of [attacker, victim, third]) await rig.detach(containerId);
    expect(listing().replaceAll(/map skeleton \{.*?\}\n\t\}/gsu, "")).not.toContain("elements");
  });
});

describe("router advertisements", () => {
  const routers = (of: Published) => of.container.run("ip -6 route show default").trim();

  it("of a container are not believed where the host is the router, inside and on the bridge", async () => {
    await attachAll({ isDefaultGateway: false, isGateway: true });
    rig.namespace.run("sysctl -qw net.ipv6.conf.all.forwarding=0");
    advertiseRouter(attacker.container);
    expect(pings(attacker, victim.ip6)).toBe(true);
    expect(routers(victim)).toBe("");
    expect(rig.namespace.run("ip -6 route show default dev br-net1")).toBe("");
  });

  it("are believed where it is not, as the kernel does by default", async () => {
    await attachAll({ isDefaultGateway: false, isGateway: false, ipMasq: false });
    advertiseRouter(attacker.container);
    expect(pings(attacker, victim.ip6)).toBe(true);
    expect(routers(victim)).toContain("proto ra");
  });
});
