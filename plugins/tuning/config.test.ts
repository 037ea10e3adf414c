import { expect, test } from "vitest";
import type { CniArgs } from "#cni/cni-args.ts";
import type { JsonObject } from "#cni/json.ts";
import { readNetworkConfig } from "#cni/network-config.ts";
import { cniVersions } from "#cni/version.ts";
import { describeAttachment } from "./attachment.ts";
import { parseTuningConfig, type TuningConfig } from "./config.ts";

function parse(fields: JsonObject, args: CniArgs = []): TuningConfig {
  const json = { cniVersion: "1.1.0", name: "net1", type: "tuning", ...fields };
  return parseTuningConfig(
    readNetworkConfig(json, "ADD", cniVersions, () => {}),
    args,
  );
}

const [a, b, c, d] = ["02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c", "02:00:00:00:00:0d"];

test("nothing configured leaves everything", () => {
  expect(parse({})).toEqual({ sysctls: [], link: {} });
  expect(parse({ mac: "", mtu: 0, promisc: false, dataDir: "" })).toEqual({ sysctls: [], link: {} });
});

test("a MAC address: args.cni before runtimeConfig before CNI_ARGS before mac", () => {
  const all = { mac: a, runtimeConfig: { mac: c }, args: { cni: { mac: d } } };
  expect(parse(all, [["MAC", b]]).link.mac).toBe(d);
  expect(parse({ ...all, args: {} }, [["MAC", b]]).link.mac).toBe(c);
  expect(parse({ mac: a }, [["MAC", b]]).link.mac).toBe(b);
  expect(parse({ mac: a }).link.mac).toBe(a);
});

test("args.cni counts before the configuration", () => {
  const { link, sysctls } = parse({
    mtu: 1400,
    allmulti: true,
    txQLen: 5,
    sysctl: { "net.core.somaxconn": "1", "net.ipv4.ip_default_ttl": "60" },
    args: {
      cni: { mtu: 1300, allmulti: false, txQLen: 0, promisc: true, sysctl: { "net/core/somaxconn": "2" } },
    },
  });
  expect(link).toEqual({ mtu: 1300, allMulticast: false, txQueueLength: 0, promiscuous: true });
  expect(sysctls.map(({ key, value }) => [key.path, value])).toEqual([
    ["net/ipv4/ip_default_ttl", "60"],
    ["net/core/somaxconn", "2"],
  ]);
});

test("args.cni.sysctl without a map in the configuration works", () => {
  expect(parse({ args: { cni: { sysctl: { "net.core.somaxconn": "2" } } } }).sysctls).toHaveLength(1);
});

test.each([
  [{ mtu: "1500" }, /mtu "1500"/],
  [{ mtu: -1 }, /mtu -1/],
  [{ txQLen: 1.5 }, /txQLen 1.5/],
  [{ mac: "nonsense" }, /mac.*nonsense/],
  [{ mac: "01:00:5e:00:00:01" }, /01:00:5e:00:00:01.*group/],
  [{ mac: "00:00:00:00:00:00" }, /zero/],
  [{ sysctl: { "net.core.somaxconn": 500 } }, /sysctl.net.core.somaxconn 500 must be a string/],
  [{ sysctl: { "kernel.shmmax": "1" } }, /invalid net sysctl key: "kernel.shmmax"/],
  [{ sysctl: { "net.a.b": "1", "net/a/b": "2" } }, /duplicated sysctl keys are not allowed: "net.a.b" and/],
  [{ runtimeConfig: { mac: "x" } }, /runtimeConfig.*"x"/],
])("%j is refused, naming field and value", (fields, message) => {
  expect(() => parse(fields as JsonObject)).toThrow(expect.objectContaining({ code: 7 }));
  expect(() => parse(fields as JsonObject)).toThrow(message);
});

test("unknown CNI_ARGS are refused without IgnoreUnknown", () => {
  expect(() => parse({}, [["K8S_POD_NAME", "x"]])).toThrow(/unknown args/);
  parse({}, [
    ["K8S_POD_NAME", "x"],
    ["IgnoreUnknown", "1"],
  ]);
});

test("two keys that are one of this interface are refused", () => {
  const config = parse({
    sysctl: { "net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv4.conf.eth0.arp_filter": "0" },
  });
  expect(() => describeAttachment(config, "eth0")).toThrow(/duplicated sysctl keys/);
  expect(describeAttachment(config, "eth1").sysctls).toHaveLength(2);
});
