import { describe, expect, test } from "vitest";
import { callStatic, type IpamCall } from "#testing/ipam-host.ts";

const conf = (ipam: object, more: object = {}) => ({
  cniVersion: "1.1.0",
  name: "net1",
  ipam: { type: "static", ...ipam },
  ...more,
});

async function call(verb: string, config: object, rest: Omit<IpamCall, "verb"> = {}) {
  const { exitCode, stdout } = await callStatic({ verb, ...rest }, config);
  const json = stdout === "" ? undefined : (JSON.parse(stdout) as Record<string, unknown>);
  expect(exitCode).toBe(json && "code" in json ? 1 : 0);
  return json;
}

const two = { addresses: [{ address: "10.1.0.5/24", gateway: "10.1.0.1" }, { address: "fd00::5/64" }] };

describe("ADD", () => {
  test("answers with what is configured", async () => {
    const routes = [
      { dst: "0.0.0.0/0", gw: "10.1.0.1" },
      { dst: "0.0.0.0/0", gw: "10.1.0.2" },
      { dst: "10.9.0.0/16", priority: 5 },
    ];
    const dns = {
      nameservers: ["10.0.0.53"],
      domain: "example.org",
      search: ["example.org"],
      options: ["ndots:2"],
    };
    expect(await call("ADD", conf({ ...two, routes, dns }))).toEqual({
      cniVersion: "1.1.0",
      ips: [{ address: "10.1.0.5/24", gateway: "10.1.0.1" }, { address: "fd00::5/64" }],
      routes,
      dns,
    });
  });

  test("appends the addresses of CNI_ARGS and gives gateways to whom they suit", async () => {
    const args = "IP=10.2.0.5/24, 10.3.0.5/24;GATEWAY=10.3.0.1,fd00::1;IgnoreUnknown=1;K8S_POD_NAME=x";
    expect((await call("ADD", conf(two), { args }))?.["ips"]).toEqual([
      { address: "10.1.0.5/24", gateway: "10.1.0.1" },
      { address: "fd00::5/64", gateway: "fd00::1" },
      { address: "10.2.0.5/24" },
      { address: "10.3.0.5/24", gateway: "10.3.0.1" },
    ]);
  });

  test("args.cni.ips replaces them, and runtimeConfig.ips replaces those", async () => {
    const asked = { args: { cni: { ips: ["10.4.0.5/24"] } } };
    const args = "IP=10.2.0.5/24";
    expect((await call("ADD", conf(two, asked), { args }))?.["ips"]).toEqual([{ address: "10.4.0.5/24" }]);
    const both = { ...asked, runtimeConfig: { ips: ["10.5.0.5/24", "fd05::5/64"] } };
    expect((await call("ADD", conf(two, both), { args }))?.["ips"]).toEqual([
      { address: "10.5.0.5/24" },
      { address: "fd05::5/64" },
    ]);
  });

  test.each([
    [
      conf({ addresses: [{ address: "10.1.0.5" }] }),
      undefined,
      7,
      "the 'address' field is expected to be in CIDR notation, got: '10.1.0.5'",
    ],
    [conf({}), "IP=10.1.0.5", 4, "the 'ip' field is expected to be in CIDR notation, got: '10.1.0.5'"],
    [
      conf({}, { args: { cni: { ips: ["10.1.0.5"] } } }),
      undefined,
      7,
      "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.0.5'",
    ],
    [
      conf({}, { runtimeConfig: { ips: ["x"] } }),
      undefined,
      7,
      "an entry in the 'ips' field is NOT in CIDR notation, got: 'x'",
    ],
    [conf(two), "GATEWAY=10.1.0", 4, "invalid gateway address: 10.1.0"],
    [
      conf({ addresses: [{ address: "10.1.0.5/24", gateway: "x" }] }),
      undefined,
      7,
      'Cannot use static configuration: ipam.addresses[0].gateway: Cannot parse IP address "x"',
    ],
    [
      conf({ addresses: "10.1.0.5/24" }),
      undefined,
      7,
      'Cannot use static configuration: ipam.addresses "10.1.0.5/24" must be a list',
    ],
    [{ cniVersion: "1.1.0", name: "net1" }, undefined, 7, "IPAM config missing 'ipam' key"],
    [
      {
        ...conf({ addresses: [{ address: "10.1.0.5/24" }, { address: "10.1.0.6/24" }] }),
        cniVersion: "0.2.0",
      },
      undefined,
      7,
      "CNI version 0.2.0 does not support more than 1 address per family",
    ],
  ])("refuses %j", async (config, args, code, msg) => {
    expect(await call("ADD", config, args === undefined ? {} : { args })).toMatchObject({ code, msg });
  });
});

describe("CHECK", () => {
  const withPrev = (...ips: object[]) => ({ ...conf(two), prevResult: { cniVersion: "1.1.0", ips } });
  const v4 = { address: "10.1.0.5/24", gateway: "10.1.0.1" };
  const v6 = { address: "fd00::5/64" };

  test("passes if every address is in the result", async () => {
    expect(await call("CHECK", withPrev({ address: "192.168.0.1/24" }, v6, v4))).toBeUndefined();
  });

  test.each([
    ["an address is missing", [v4], "static: Failed to match addr fd00::5/64 on interface eth0"],
    [
      "a gateway differs",
      [{ ...v4, gateway: "10.1.0.9" }, v6],
      "static: Failed to match addr 10.1.0.5/24 on interface eth0",
    ],
  ])("fails if %s", async (_name, ips, msg) => {
    expect(await call("CHECK", withPrev(...ips))).toMatchObject({ msg });
  });
});

test("DEL and GC have nothing to do, whatever the configuration has become", async () => {
  const broken = conf({ addresses: 5 });
  expect(await call("DEL", broken, { netns: "" })).toBeUndefined();
  expect(await call("GC", { ...broken, "cni.dev/valid-attachments": [] })).toBeUndefined();
});

test("STATUS says what is wrong with the configuration", async () => {
  expect(await call("STATUS", conf(two))).toBeUndefined();
  expect(await call("STATUS", conf({ addresses: [{ address: "x" }] }))).toMatchObject({ code: 7 });
});
