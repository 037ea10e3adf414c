import { expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { readNetworkConfig } from "#cni/network-config.ts";
import { cniVersions } from "#cni/version.ts";
import { parseCidr } from "#net/cidr.ts";
import { describeAttachment } from "./attachment.ts";
import { type BandwidthConfig, parseBandwidthConfig } from "./config.ts";
import { ifbNames } from "./names.ts";

function parse(fields: JsonObject): BandwidthConfig {
  const json = { cniVersion: "1.1.0", name: "net1", type: "bandwidth", ...fields };
  return parseBandwidthConfig(readNetworkConfig(json, "ADD", cniVersions, () => {}));
}

const rates = { ingressRate: 8_000_000, ingressBurst: 160_000, egressRate: 16_000_000, egressBurst: 320_000 };

test("bits become bytes", () => {
  expect(parse(rates)).toEqual({
    ingress: { bytesPerSecond: 1_000_000n, burstBytes: 20_000 },
    egress: { bytesPerSecond: 2_000_000n, burstBytes: 40_000 },
    mode: "all-but",
    subnets: [],
  });
});

test("the runtime's rates count where the configuration has none of its own", () => {
  const runtimeConfig = { bandwidth: { ingressRate: 80, ingressBurst: 80 } };
  expect(parse({ runtimeConfig }).ingress?.bytesPerSecond).toBe(10n);
  expect(parse({ runtimeConfig, ...rates }).ingress?.bytesPerSecond).toBe(1_000_000n);
  expect(parse({ runtimeConfig, egressRate: 0 }).ingress).toBeUndefined();
  expect(
    parse({ RuntimeConfig: { Bandwidth: { IngressRate: 80, IngressBurst: 80 } } }).ingress,
  ).toBeDefined();
  expect(parse({})).toMatchObject({ ingress: undefined, egress: undefined });
});

test("subnets are exempt, or alone count", () => {
  expect(parse({ ...rates, unshapedSubnets: ["10.0.0.0/8"] })).toMatchObject({
    mode: "all-but",
    subnets: [parseCidr("10.0.0.0/8")],
  });
  expect(parse({ ...rates, shapedSubnets: ["fd00::/8"] })).toMatchObject({ mode: "only" });
});

test("the configuration's subnets hold for the runtime's rates", () => {
  const bandwidth = { ingressRate: 80, ingressBurst: 80, shapedSubnets: ["192.0.2.0/24"] };
  const runtimeConfig = { bandwidth };
  expect(parse({ runtimeConfig, unshapedSubnets: ["10.0.0.0/8"] })).toMatchObject({
    ingress: { bytesPerSecond: 10n },
    mode: "all-but",
    subnets: [parseCidr("10.0.0.0/8")],
  });
  expect(parse({ runtimeConfig })).toMatchObject({ mode: "only", subnets: [parseCidr("192.0.2.0/24")] });
  expect(parse({ runtimeConfig, ...rates }).subnets).toEqual([]);
});

test.each([
  [{ ingressRate: 8000 }, /"ingressRate" 8000: if rate is set, burst must also be set/],
  [{ egressBurst: 8000 }, /"egressBurst" 8000: if burst is set, rate must also be set/],
  [
    { ingressRate: 8000, ingressBurst: 2 ** 35 + 8 },
    /"ingressBurst" 34359738376: burst cannot be more than 4GB/,
  ],
  [{ ingressRate: 7, ingressBurst: 8000 }, /"ingressRate" 7/],
  [{ ingressRate: -1 }, /ingressRate -1/],
  [{ ingressRate: "1M" }, /ingressRate "1M"/],
  [{ runtimeConfig: { bandwidth: { egressRate: 1.5 } } }, /runtimeConfig.bandwidth.*egressRate 1.5/],
  [{ runtimeConfig: { bandwidth: 7 } }, /runtimeConfig.bandwidth: 7 must be an object/],
  [{ ...rates, unshapedSubnets: ["10.0.0.0/33"] }, /unshapedSubnets\[0\].*10.0.0.0\/33/],
  [{ ...rates, unshapedSubnets: ["10.0.0.0/8"], shapedSubnets: ["10.0.0.0/8"] }, /cannot be both specified/],
])("%j is refused, naming field and value", (fields, message) => {
  expect(() => parse(fields as JsonObject)).toThrow(expect.objectContaining({ code: 7 }));
  expect(() => parse(fields as JsonObject)).toThrow(message);
});

const key = { network: "net1", containerId: "c1", ifName: "eth0" };
const device = { name: "veth1", ifindex: 7, mtu: 1500 };

test("the host's end of a pair sends to the container, the container's own interface from it", () => {
  const config = parse({ ...rates, unshapedSubnets: ["10.0.0.0/8"] });
  const onHost = describeAttachment({ config, key, device, place: "host" });
  expect(onHost.leaving).toMatchObject({
    shape: { bytesPerSecond: 1_000_000n, burstBytes: 20_000, limitBytes: 45_000 },
    selection: { remote: "source" },
  });
  expect(onHost.arriving).toMatchObject({
    shape: { bytesPerSecond: 2_000_000n },
    selection: { remote: "destination" },
  });
  const inside = describeAttachment({ config, key, device, place: "container" });
  expect([inside.leaving, inside.arriving]).toEqual([onHost.arriving, onHost.leaving]);
});

test("a burst that holds no packet is made to hold one", () => {
  const config = parse({ ingressRate: 80_000, ingressBurst: 80 });
  const { leaving } = describeAttachment({ config, key, device, place: "host" });
  expect(leaving?.shape).toEqual({ bytesPerSecond: 10_000n, burstBytes: 1522, limitBytes: 1772 });
});

test("the link is called as the reference calls it; for a second interface otherwise", () => {
  // printf 'net1c1' | sha512sum | head -c12
  expect(ifbNames(key)).toEqual(["bwpc2d892b58e87", ifbNames(key)[1]]);
  const other = ifbNames({ ...key, ifName: "eth1" });
  expect(other[0]).toBe(ifbNames(key)[0]);
  expect(other[1]).not.toBe(ifbNames(key)[1]);
});
