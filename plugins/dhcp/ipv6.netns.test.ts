import { afterEach, beforeEach, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Lease } from "#dhcp/v6/lease.ts";
import { dhcp6 } from "#dhcp/v6/protocol.ts";
import { waitUntil } from "#kernel/wait.ts";
import { formatIp } from "#net/ip.ts";
import { DhcpRig } from "#testing/dhcp-rig.ts";
import { patience } from "#testing/patience.ts";

let rig: DhcpRig;
beforeEach(() => {
  rig = new DhcpRig();
});
afterEach(async () => {
  await rig.close();
});

const range = "--dhcp-range=fd00:1::50,fd00:1::5f,64,2m";
const only6 = { families: ["ipv6"] };
const inRange = /^fd00:1::5[0-9a-f]\/128$/;

function ipsOf(result: JsonObject): readonly string[] {
  return (result["ips"] as unknown as readonly { readonly address: string }[]).map(({ address }) => address);
}

/** The only one, as it is written down. */
function lease(): Lease {
  const [stored] = rig.store(dhcp6).list();
  if (!stored?.lease) throw new Error("no lease");
  return stored.lease;
}

/** The lease's addresses on the container's interface, as a plugin would set them. */
function useAddresses(): void {
  for (const { address } of lease().addresses)
    rig.container.run(`ip addr add ${formatIp(address)}/128 dev eth0 nodad`);
}

function usedAddresses(): string {
  return rig.container.run("ip -6 -o addr show dev eth0 scope global");
}

/**
 * A keeper that starts in so many seconds from now, and has become idle each time before it goes on to the next; the
 * clock stands still meanwhile. It confirms what an earlier one has left within five seconds, then it goes on with it.
 */
async function keep(...aheadSeconds: number[]): Promise<void> {
  let ahead = 0;
  const keeper = rig.keeper(dhcp6, () => ahead);
  for (ahead of aheadSeconds) {
    keeper.tick();
    await waitUntil("the keeper", () => (keeper.isIdle ? true : undefined), { timeoutMs: 60_000 * patience });
  }
  await keeper.close();
}

test("ADD gets an address of IPv6, CHECK sees its lease, and DEL tells the server", async () => {
  const server = await rig.serve(
    range,
    "--dhcp-option=option6:dns-server,[fd00:1::53]",
    "--dhcp-option=option6:domain-search,a.example.org,b.example.org",
    "--dhcp-option=option6:ntp-server,[fd00:1::123]",
  );
  const result = await rig.add({ ...only6, ipv6: { request: [{ option: "ntp-servers" }] } });
  expect(ipsOf(result)).toEqual([expect.stringMatching(inRange)]);
  expect(result["routes"]).toBeUndefined();
  expect(result["dns"]).toEqual({
    nameservers: ["fd00:1::53"],
    search: ["a.example.org", "b.example.org"],
  });
  expect(lease().timeServers).toEqual(["fd00:1::123"]);
  expect((await rig.call("CHECK", only6, { prevResult: result })).json).toEqual({});
  useAddresses();
  expect(await rig.call("DEL", only6, {}, { netns: "" })).toMatchObject({ exitCode: 0, json: {} });
  await server.saw(/DHCPRELEASE\(up0\)/);
  expect(usedAddresses()).toBe("");
  expect(rig.store(dhcp6).list()).toEqual([]);
  expect(await rig.call("DEL", only6, {}, { netns: "" })).toMatchObject({ exitCode: 0, json: {} });
});

test("both families at once, IPv4 first; the end of one leaves the other", async () => {
  const server = await rig.serve(range, "--dhcp-range=10.1.0.50,10.1.0.60,255.255.255.0,2m");
  const both = { families: ["ipv4", "ipv6"], priority: 7, ipv6: { prefixLength: 64, gateway: "fe80::1" } };
  const result = await rig.add(both);
  expect(result["ips"]).toEqual([
    { address: expect.stringMatching(/^10\.1\.0\.(5\d|60)\/24$/), gateway: "10.1.0.1" },
    { address: expect.stringMatching(/^fd00:1::5[0-9a-f]\/64$/), gateway: "fe80::1" },
  ]);
  expect(result["routes"]).toEqual([
    { dst: "0.0.0.0/0", gw: "10.1.0.1", priority: 7 },
    { dst: "::/0", gw: "fe80::1", priority: 7 },
  ]);
  expect((await rig.call("CHECK", both, { prevResult: result })).json).toEqual({});
  await server.stop();
  useAddresses();
  const { dhcp4 } = await import("#dhcp/v4/protocol.ts");
  const [address] = ipsOf(result);
  rig.container.run(`ip addr add ${address} dev eth0`);
  const keeper = rig.keeper(dhcp4, () => 121);
  keeper.tick();
  await keeper.close();
  expect(rig.isUp()).toBe(true);
  expect(rig.container.run("ip -4 -o addr show dev eth0")).toBe("");
  expect(usedAddresses()).toContain("fd00:1::");
  expect((await rig.call("CHECK", both, { prevResult: result })).json["msg"]).toBe(
    "there is no DHCP lease for eth0",
  );
});

test("a family that nobody serves fails the ADD, and what the other got goes back", async () => {
  const server = await rig.serve(range);
  const { json } = await rig.call("ADD", { families: ["ipv4", "ipv6"], timeoutSeconds: 3 });
  expect(json["msg"]).toMatch(/^Cannot get an address by DHCP on eth0 .*: no server answered \(\d DISCOVER/);
  await server.saw(/DHCPRELEASE/);
  expect(rig.store(dhcp6).list()).toEqual([]);
});

test("a configuration that does not name IPv6 never asks for it", async () => {
  const server = await rig.serve(range, "--dhcp-range=10.1.0.50,10.1.0.60,255.255.255.0,2m");
  expect(ipsOf(await rig.add())).toHaveLength(1);
  await server.saw(/DHCPACK/);
  expect(server.log).not.toContain("DHCPSOLICIT");
});

test("several addresses, each of an association of its own", async () => {
  await rig.serve(range);
  const result = await rig.add({ ...only6, ipv6: { addresses: 3 } });
  expect(new Set(ipsOf(result)).size).toBe(3);
  expect(new Set(lease().addresses.map(({ association }) => association)).size).toBe(3);
});

test("the server is told what the configuration provides, and asked for what it requests", async () => {
  const server = await rig.serve(range, "--dhcp-vendorclass=set:known,enterprise:40712,netctl");
  const ipv6 = {
    rapidCommit: false,
    provide: [
      { option: "client-id", value: "00:03:00:01:02:00:00:00:00:07" },
      { option: "fqdn", fromArg: "K8S_POD_NAME" },
      { option: "vendor-class", value: "40712:netctl-test" },
    ],
    request: [{ skipDefault: true }, { option: "sntp-servers" }],
  };
  await rig.add({ ...only6, ipv6 }, { args: "K8S_POD_NAME=web-1" });
  const log = await server.saw(/DHCPREPLY/);
  expect(log).toMatch(/DHCPREQUEST\(up0\) 00:03:00:01:02:00:00:00:00:07/);
  expect(log).toContain("client provides name: web-1");
  expect(log).toMatch(/tags: .*known/);
  expect(log).toContain("requested options: 31:sntp-server, 82");
});

test("a repeated ADD gets the same address, and so does a container that was there before", async () => {
  await rig.serve(range);
  const first = ipsOf(await rig.add(only6));
  expect(ipsOf(await rig.add(only6))).toEqual(first);
  await rig.call("DEL", only6);
  expect(ipsOf(await rig.add(only6))).toEqual(first);
});

test("without a server the error says so, and nothing is left", async () => {
  const { json } = await rig.call("ADD", { ...only6, timeoutSeconds: 1 });
  expect(json).toMatchObject({ code: 11 });
  expect(json["msg"]).toMatch(
    /^Cannot get an address by DHCPv6 on eth0 \([0-9a-f:]{17}\): no server answered \(\d SOLICIT sent in \d(\.\d)? s\)$/,
  );
  expect(rig.store(dhcp6).list()).toEqual([]);
});

test("a link that leads nowhere is named as the reason", async () => {
  rig.lan.run("ip link set up0 down");
  const { json } = await rig.call("ADD", { ...only6, timeoutSeconds: 1 });
  expect(json).toMatchObject({ code: 11, msg: expect.stringContaining("it has no carrier") });
});

test("a server whose addresses are all given says so", async () => {
  await rig.serve("--dhcp-range=fd00:1::50,fd00:1::50,64,2m");
  await rig.add(only6);
  const { json } = await rig.call("ADD", { ...only6, timeoutSeconds: 2 }, {}, { containerId: "c2" });
  expect(json["msg"]).toMatch(/server [0-9a-f:]+ (gave|offers) no address \(NoAddrsAvail: .+\)/);
});

test("a server that comes late is heard", async () => {
  const adding = rig.add(only6);
  const hasBegun = () => rig.store(dhcp6).list().length > 0 || undefined;
  await waitUntil("the ADD to ask", hasBegun, { timeoutMs: 10_000 * patience });
  await rig.serve(range);
  expect(ipsOf(await adding)).toEqual([expect.stringMatching(inRange)]);
});

test("what can't work is refused at once", async () => {
  const broken: readonly [JsonObject, RegExp][] = [
    [{ families: [] }, /families \[\]/],
    [{ families: ["ipv5"] }, /families\[0\] "ipv5" must be one of "ipv4", "ipv6"/],
    [{ ipv6: {} }, /"ipv6" is set, and families \["ipv4"\] is without "ipv6"/],
    [{ ...only6, ipv6: { addresses: 17 } }, /ipv6\.addresses 17 must be an integer of 1 to 16/],
    [{ ...only6, ipv6: { prefixLength: 0 } }, /ipv6\.prefixLength 0/],
    [{ ...only6, ipv6: { gateway: "10.1.0.1" } }, /ipv6\.gateway "10\.1\.0\.1": must be of IPv6/],
    [{ ...only6, ipv6: { request: [{ option: "routers" }] } }, /"ipv6\.request\[0\]"\.option "routers"/],
    [
      { ...only6, ipv6: { request: [{ option: 3 }] } },
      /"ipv6\.request\[0\]"\.option 3: the client itself sets it/,
    ],
    [
      { ...only6, ipv6: { provide: [{ option: "client-id", value: "me" }] } },
      /"ipv6\.provide\[0\]"\.value "me": must be 3 to 130 bytes in hex/,
    ],
    [
      { ...only6, ipv6: { provide: [{ option: "vendor-class", value: "me" }] } },
      /"ipv6\.provide\[0\]"\.value "me": must be an enterprise number/,
    ],
    [
      { ...only6, ipv6: { provide: [{ option: "fqdn", value: "a..b" }] } },
      /"ipv6\.provide\[0\]"\.value "a\.\.b": must be a domain name/,
    ],
  ];
  for (const [ipam, msg] of broken) {
    expect((await rig.call("ADD", ipam)).json).toMatchObject({ code: 7, msg: expect.stringMatching(msg) });
  }
  expect(rig.store(dhcp6).list()).toEqual([]);
});

test("the server with the highest preference is chosen, whoever answers first", async () => {
  const best = await rig.neighbour("fd00:1::2/64", "--dhcp-range=fd00:1::a0,fd00:1::af,64,2m");
  await rig.serveIsc6("default-lease-time 120; subnet6 fd00:1::/64 { range6 fd00:1::50 fd00:1::5f; }");
  // dnsmasq says 255, the ISC's server nothing.
  const result = await rig.add({ ...only6, ipv6: { rapidCommit: false } });
  expect(ipsOf(result)).toEqual([expect.stringMatching(/^fd00:1::a[0-9a-f]\/128$/)]);
  await best?.saw(/DHCPREPLY/);
});

test("the ISC's server, which commits in four messages, extends and takes back", async () => {
  const server = await rig.serveIsc6(
    `default-lease-time 120; option dhcp6.name-servers fd00:1::53;
     subnet6 fd00:1::/64 { range6 fd00:1::50 fd00:1::5f; }`,
  );
  const result = await rig.add(only6);
  expect(result["dns"]).toEqual({ nameservers: ["fd00:1::53"] });
  await server.saw(/Solicit[^]*Advertise[^]*Request[^]*Reply/);
  const before = lease().times;
  const renewal = before.renewAt - before.obtainedAt + 1;
  await keep(1, 6, renewal);
  await server.saw(/Confirm[^]*Renew/);
  expect(lease().times.expiresAt).toBeGreaterThan(before.expiresAt);
  await rig.call("DEL", only6);
  await server.saw(/Release[^]*Sending Reply/);
});

test("an address that another node has is declined, and another one is got", async () => {
  const server = await rig.serve(range);
  const [first = ""] = ipsOf(await rig.add(only6));
  await rig.call("DEL", only6);
  await rig.neighbour(first.replace("/128", "/64"));
  rig.container.run("echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad");
  const [second = ""] = ipsOf(await rig.add(only6));
  expect(second).toMatch(inRange);
  expect(second).not.toBe(first);
  await server.saw(/DHCPDECLINE/);
  expect(usedAddresses()).toBe("");
});

test("an address that turns out to be another's is declined by DEL", async () => {
  const server = await rig.serve(range);
  const [first = ""] = ipsOf(await rig.add(only6));
  await rig.neighbour(first.replace("/128", "/64"));
  rig.container.run(`echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip addr add ${first} dev eth0
    until ip -6 addr show dev eth0 | grep -q dadfailed; do sleep 0.05; done`);
  await rig.call("DEL", only6);
  await server.saw(/DHCPDECLINE/);
});

test("a lease is confirmed after a restart, extended at T1 by its server and at T2 by any", async () => {
  const server = await rig.serve(range);
  await rig.add(only6);
  const first = lease();
  await keep(1, 6);
  await server.saw(/DHCPCONFIRM/);
  expect(lease().times).toEqual(first.times);
  await keep(1, 6, 61);
  await server.saw(/DHCPRENEW[^]*DHCPREPLY/);
  const second = lease();
  expect(second.addresses.map(({ address }) => address)).toEqual(
    first.addresses.map(({ address }) => address),
  );
  expect(second.times.expiresAt - first.times.expiresAt).toBeGreaterThan(55);
  // Its own server is another one, which is gone.
  const [stored] = rig.store(dhcp6).list();
  if (!stored?.lease) throw new Error("no lease");
  rig.store(dhcp6).write({ ...stored, lease: { ...second, server: Uint8Array.of(0, 4, 1, 2, 3) } });
  await keep(61, 66, 61 + 110);
  await server.saw(/DHCPREBIND[^]*DHCPREPLY/);
  expect(Buffer.from(lease().server).equals(first.server)).toBe(true);
});

test("a server that has forgotten the lease gives it again", async () => {
  const duid = "--dhcp-duid=40712,01:02:03:04";
  const server = await rig.serve(range, duid);
  await rig.add(only6);
  const before = lease();
  await server.stop();
  const next = await rig.serve(range, duid);
  await keep(1, 6, 61);
  await next.saw(/DHCPRENEW[^]*DHCPREQUEST[^]*DHCPREPLY/);
  expect(lease().times.expiresAt).toBeGreaterThan(before.times.expiresAt);
});

test("an address goes when its lease has expired; the interface stays", async () => {
  const server = await rig.serve(range);
  const prevResult = await rig.add(only6);
  useAddresses();
  await server.stop();
  await keep(121);
  expect(usedAddresses()).toBe("");
  expect(rig.isUp()).toBe(true);
  expect(rig.store(dhcp6).list()).toEqual([]);
  expect((await rig.call("CHECK", only6, { prevResult })).json["msg"]).toBe(
    "there is no DHCPv6 lease for eth0",
  );
});

test("an address goes when a server says that it is not of this link", async () => {
  const server = await rig.serve(range);
  await rig.add(only6);
  useAddresses();
  await server.stop();
  rig.lan.run("ip -6 addr flush dev up0 scope global; ip addr add fd00:2::1/64 dev up0 nodad");
  const other = await rig.serve("--dhcp-range=fd00:2::50,fd00:2::5f,64,2m");
  await keep(1, 6);
  await other.saw(/DHCPCONFIRM/);
  expect(usedAddresses()).toBe("");
  expect(rig.store(dhcp6).list()).toEqual([]);
});

test("GC gives back what belongs to no valid attachment", async () => {
  const server = await rig.serve(range);
  await rig.add(only6);
  const gc = (valid: JsonObject[]) => rig.call("GC", only6, { "cni.dev/valid-attachments": valid });
  expect(await gc([{ containerID: "c1", ifname: "eth0" }])).toMatchObject({ exitCode: 0 });
  expect(rig.store(dhcp6).list()).toHaveLength(1);
  expect(await gc([])).toMatchObject({ exitCode: 0 });
  expect(rig.store(dhcp6).list()).toEqual([]);
  await server.saw(/DHCPRELEASE/);
});
