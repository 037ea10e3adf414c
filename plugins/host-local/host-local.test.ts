import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callHostLocal, type IpamCall } from "#testing/ipam-host.ts";

let state: string;
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), "netctl-host-local-"));
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

interface Conf {
  readonly cniVersion?: string;
  readonly ipam?: object;
  readonly [key: string]: unknown;
}

const conf = ({ cniVersion = "1.1.0", ipam = {}, ...more }: Conf = {}) => ({
  cniVersion,
  name: "net1",
  type: "bridge",
  ipam: { type: "host-local", ...ipam },
  ...more,
});

async function call(verb: string, config: object, rest: Omit<IpamCall, "verb"> & { bootId?: string } = {}) {
  const { exitCode, stdout } = await callHostLocal(state, { verb, ...rest }, config);
  const json = stdout === "" ? undefined : (JSON.parse(stdout) as Record<string, unknown>);
  expect(exitCode).toBe(json && "code" in json ? 1 : 0);
  return json;
}

const leases = (directory = join(state, "networks", "net1")) =>
  readdirSync(directory).filter((name) => /^[0-9a-f]+[.:]/.test(name));

describe("ADD", () => {
  test("answers with address, gateway, routes and dns", async () => {
    const resolvConf = join(state, "resolv.conf");
    writeFileSync(
      resolvConf,
      "# comment\n; other\nnameserver 10.0.0.53\nnameserver fd00::53\ndomain example.org\nsearch a.example b.example\noptions ndots:2 rotate\n\nnameserver\n",
    );
    const routes = [{ dst: "0.0.0.0/0" }, { dst: "10.9.0.0/16", gw: "10.1.0.9", mtu: 1400, table: 7 }];
    expect(await call("ADD", conf({ ipam: { subnet: "10.1.0.0/24", routes, resolvConf } }))).toEqual({
      cniVersion: "1.1.0",
      ips: [{ address: "10.1.0.2/24", gateway: "10.1.0.1" }],
      routes,
      dns: {
        nameservers: ["10.0.0.53", "fd00::53"],
        domain: "example.org",
        search: ["a.example", "b.example"],
        options: ["ndots:2", "rotate"],
      },
    });
    expect(leases()).toEqual(["10.1.0.2"]);
  });

  test("takes ranges of the runtime first, then the single range, then the list", async () => {
    const config = conf({
      ipam: {
        subnet: "10.1.0.0/24",
        rangeStart: "10.1.0.50",
        rangeEnd: "10.1.0.60",
        ranges: [[{ subnet: "10.2.0.0/24", gateway: "10.2.0.254" }]],
      },
      runtimeConfig: {
        ipRanges: [[{ subnet: "fd00::/64", rangeStart: "fd00::10" }], [{ Subnet: "10.3.0.0/24" }]],
      },
    });
    expect((await call("ADD", config))?.["ips"]).toEqual([
      { address: "fd00::10/64", gateway: "fd00::1" },
      { address: "10.3.0.2/24", gateway: "10.3.0.1" },
      { address: "10.1.0.50/24", gateway: "10.1.0.1" },
      { address: "10.2.0.1/24", gateway: "10.2.0.254" },
    ]);
  });

  test('reads keys in any case, as Go does, and "" and null as absent', async () => {
    const ipam = {
      Subnet: "10.1.0.0/24",
      RANGESTART: "10.1.0.9",
      gateway: "",
      rangeEnd: null,
      resolvConf: "",
    };
    expect((await call("ADD", conf({ ipam })))?.["ips"]).toEqual([
      { address: "10.1.0.9/24", gateway: "10.1.0.1" },
    ]);
  });

  test.each([
    ["CNI_ARGS", {}, "IP=10.1.0.77"],
    [
      "CNI_ARGS with a prefix length, as podman sends it",
      {},
      "IgnoreUnknown=1;MAC=aa:bb:cc:dd:ee:ff;IP=10.1.0.77/16",
    ],
    ["args.cni.ips", { args: { cni: { ips: ["10.1.0.77"] } } }, undefined],
    ["runtimeConfig.ips", { runtimeConfig: { ips: ["10.1.0.77/24"] } }, undefined],
    [
      "all of them",
      { runtimeConfig: { ips: ["10.1.0.77"] }, args: { cni: { ips: ["10.1.0.77/24"] } } },
      "IP=10.1.0.77",
    ],
  ])("gives the address that is asked for by %s", async (_name, more, args) => {
    const result = await call(
      "ADD",
      conf({ ipam: { subnet: "10.1.0.0/24" }, ...more }),
      args === undefined ? {} : { args },
    );
    expect(result?.["ips"]).toEqual([{ address: "10.1.0.77/24", gateway: "10.1.0.1" }]);
  });

  test("keeps leases in dataDir", async () => {
    await call("ADD", conf({ ipam: { subnet: "10.1.0.0/24", dataDir: join(state, "elsewhere") } }));
    expect(leases(join(state, "elsewhere", "net1"))).toEqual(["10.1.0.2"]);
  });

  test("answers in the version of the configuration", async () => {
    const ipam = { ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00::/64" }]] };
    expect(await call("ADD", conf({ ipam, cniVersion: "0.2.0" }))).toMatchObject({
      cniVersion: "0.2.0",
      ip4: { ip: "10.1.0.2/24", gateway: "10.1.0.1" },
      ip6: { ip: "fd00::2/64", gateway: "fd00::1" },
    });
  });
});

describe("ADD refuses, and reserves nothing:", () => {
  const v4 = { subnet: "10.1.0.0/24" };
  test.each<[string, Conf, string | undefined, number, string]>([
    ["no range", {}, undefined, 7, "no IP ranges specified"],
    [
      "text for a list",
      { ipam: { ranges: "10.1.0.0/24" } },
      undefined,
      7,
      'ipam.ranges "10.1.0.0/24" must be a list',
    ],
    ["a number", { ipam: { subnet: 10 } }, undefined, 7, "ipam.subnet 10 must be a string"],
    [
      "no prefix length",
      { ipam: { subnet: "10.1.0.0" } },
      undefined,
      7,
      'ipam.subnet: Cannot parse CIDR "10.1.0.0": prefix length is missing',
    ],
    [
      "no subnet",
      { ipam: { ranges: [[{ rangeStart: "10.1.0.1" }]] } },
      undefined,
      7,
      "ipam.ranges[0][0].subnet is missing",
    ],
    [
      "a gateway outside",
      { ipam: { ...v4, gateway: "10.9.0.1" } },
      undefined,
      7,
      "invalid range set 0: Gateway 10.9.0.1 not in network 10.1.0.0/24",
    ],
    [
      "a bad route",
      { ipam: { ...v4, routes: [{ dst: "10.0.0.0" }] } },
      undefined,
      7,
      'routes[0].dst: Cannot parse CIDR "10.0.0.0"',
    ],
    [
      "a missing resolvConf",
      { ipam: { ...v4, resolvConf: "/nonexistent/resolv.conf" } },
      undefined,
      5,
      'Cannot read ipam.resolvConf "/nonexistent/resolv.conf"',
    ],
    [
      "a resolvConf that never ends",
      { ipam: { ...v4, resolvConf: "/dev/zero" } },
      undefined,
      5,
      'Cannot read ipam.resolvConf "/dev/zero": it is no regular file',
    ],
    [
      "two of a family below 0.3.0",
      { cniVersion: "0.2.0", ipam: { ...v4, ranges: [[{ subnet: "10.2.0.0/24" }]] } },
      undefined,
      7,
      "CNI version 0.2.0 does not support more than 1 address per family",
    ],
    ["unknown CNI_ARGS", { ipam: v4 }, "FOO=bar", 4, 'ARGS: unknown args ["FOO=bar"]'],
    ["a bad IP", { ipam: v4 }, "IP=10.1.0", 4, 'Cannot parse IP address "10.1.0"'],
    ["an IP outside", { ipam: v4 }, "IP=10.9.0.1", 7, "failed to allocate all requested IPs: 10.9.0.1"],
    [
      "the gateway's IP",
      { ipam: v4 },
      "IP=10.1.0.1",
      7,
      "failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway",
    ],
    [
      "a dataDir that can't be made",
      { ipam: { ...v4, dataDir: "/proc/self/x" } },
      undefined,
      5,
      'Cannot make lease directory "/proc/self/x/net1"',
    ],
  ])("%s", async (_name, config, args, code, message) => {
    const error = await call("ADD", conf(config), args === undefined ? {} : { args });
    expect(error).toMatchObject({ code, msg: expect.stringContaining(message) as string });
    expect(readdirSync(state).flatMap((name) => (name === "networks" ? leases() : []))).toEqual([]);
  });

  test("no ipam at all", async () => {
    expect(await call("ADD", { cniVersion: "1.1.0", name: "net1" })).toMatchObject({
      code: 7,
      msg: "IPAM config missing 'ipam' key",
    });
  });
});

describe("DEL", () => {
  test("needs neither ranges nor namespace, and may be repeated", async () => {
    await call("ADD", conf({ ipam: { subnet: "10.1.0.0/24" } }));
    const changed = conf({ ipam: { subnet: "not a subnet", ranges: 5 } });
    for (const netns of ["", "/nonexistent"]) {
      expect(await call("DEL", changed, { netns, args: "bad" })).toBeUndefined();
      expect(leases()).toEqual([]);
    }
  });

  test("without any lease makes nothing", async () => {
    expect(await call("DEL", conf(), { netns: "" })).toBeUndefined();
    expect(readdirSync(state)).toEqual([]);
  });
});

describe("CHECK", () => {
  const config = conf({ ipam: { subnet: "10.1.0.0/24" } });
  const withPrev = (address: string) => ({
    ...config,
    prevResult: { cniVersion: "1.1.0", ips: [{ address }] },
  });

  test("passes while the lease is there", async () => {
    await call("ADD", config);
    expect(await call("CHECK", withPrev("10.1.0.2/24"))).toBeUndefined();
    expect(await call("CHECK", withPrev("192.168.0.1/24"))).toBeUndefined();
  });

  test("fails without one, or with another one", async () => {
    expect(await call("CHECK", withPrev("10.1.0.2/24"))).toMatchObject({
      msg: "host-local: Failed to find address added by container c1",
    });
    await call("ADD", config);
    expect(await call("CHECK", withPrev("10.1.0.3/24"))).toMatchObject({
      msg: "host-local: container c1 has no lease for 10.1.0.3 of its result",
    });
  });
});

describe("GC", () => {
  const config = conf({ ipam: { subnet: "10.1.0.0/24" } });

  test("frees what is not in the list", async () => {
    for (const containerId of ["a", "b"]) await call("ADD", config, { containerId });
    const valid = [{ containerID: "b", ifname: "eth0" }];
    expect(await call("GC", { ...config, "cni.dev/valid-attachments": valid })).toBeUndefined();
    expect(leases()).toEqual(["10.1.0.3"]);
  });

  test("frees nothing without a list", async () => {
    await call("ADD", config);
    expect(await call("GC", config)).toBeUndefined();
    expect(leases()).toEqual(["10.1.0.2"]);
  });
});

describe("STATUS", () => {
  const config = conf({ ipam: { subnet: "10.1.0.0/30" } });

  test("is 50 when the pool is used up", async () => {
    expect(await call("STATUS", config)).toBeUndefined();
    await call("ADD", config);
    expect(await call("STATUS", config)).toMatchObject({
      code: 50,
      msg: "no IP addresses available in range set: 10.1.0.1-10.1.0.2",
    });
  });

  test("takes a configuration that gets its ranges from the runtime", async () => {
    expect(await call("STATUS", conf())).toMatchObject({ code: 7 });
    expect(await call("STATUS", conf({ capabilities: { ipRanges: true } }))).toBeUndefined();
  });
});
