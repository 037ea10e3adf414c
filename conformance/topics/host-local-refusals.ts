import type { JsonValue } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { ipamConfig } from "#conformance/configs.ts";
import { expect } from "#conformance/failure.ts";
import { code } from "#conformance/reply.ts";
import { request } from "./host-local-allocation.ts";

type Ipam = Readonly<Record<string, JsonValue>>;

const refusals: readonly (readonly [
  title: string,
  ipam: Ipam,
  names: RegExp | readonly RegExp[],
  message: string,
])[] = [
  [
    "a /31, which has no address to give",
    { subnet: "10.77.0.0/31" },
    /10\.77\.0\.0\/31/,
    "Network too small to allocate from",
  ],
  [
    "a /32, which has no address to give",
    { subnet: "10.77.0.7/32" },
    /10\.77\.0\.7\/32/,
    "Network too small to allocate from",
  ],
  [
    "a /127, which has no address to give",
    { subnet: "2001:db8::/127" },
    /2001:db8::\/127/,
    "Network too small to allocate from",
  ],
  [
    "a subnet with host bits",
    { subnet: "10.77.0.5/24" },
    [/host bits/i, /10\.77\.0\.0/],
    "Network has host bits set",
  ],
  [
    "an IPv6 subnet with host bits",
    { subnet: "2001:db8::5/64" },
    [/host bits/i, /2001:db8::/],
    "Network has host bits set",
  ],
  ["a subnet that is none", { subnet: "10.77.0.0" }, /10\.77\.0\.0/, "invalid CIDR address"],
  ["a subnet with too long a prefix", { subnet: "10.77.0.0/33" }, /10\.77\.0\.0\/33/, "invalid CIDR address"],
  ["an empty subnet", { subnet: "" }, /range|subnet|CIDR/i, "no IP ranges specified"],
  [
    "a rangeStart outside of the subnet",
    { subnet: "10.77.0.0/24", rangeStart: "10.78.0.1" },
    [/RangeStart/i, /10\.78\.0\.1/],
    "RangeStart not in network",
  ],
  [
    "a rangeEnd outside of the subnet",
    { subnet: "10.77.0.0/24", rangeEnd: "10.78.0.1" },
    [/RangeEnd/i, /10\.78\.0\.1/],
    "RangeEnd not in network",
  ],
  [
    "a rangeStart behind the rangeEnd",
    { subnet: "10.77.0.0/24", rangeStart: "10.77.0.9", rangeEnd: "10.77.0.8" },
    /10\.77\.0\.[89]/,
    "RangeStart not in network",
  ],
  [
    "a rangeStart of the other family",
    { subnet: "10.77.0.0/24", rangeStart: "fd00::1" },
    /fd00::1/,
    "RangeStart not in network",
  ],
  [
    "a gateway that is no address",
    { subnet: "10.77.0.0/24", gateway: "10.77.0" },
    /10\.77\.0/,
    "invalid IP address",
  ],
  [
    "two families in one range set",
    { ranges: [[{ subnet: "10.77.0.0/24" }, { subnet: "fd00:77::/64" }]] },
    /famil/i,
    "mixed address families",
  ],
  [
    "overlapping ranges in one set",
    { ranges: [[{ subnet: "10.77.0.0/24" }, { subnet: "10.77.0.0/25" }]] },
    /overlap/i,
    "subnets overlap",
  ],
  [
    "overlapping range sets",
    { ranges: [[{ subnet: "10.77.0.0/24" }], [{ subnet: "10.77.0.128/25" }]] },
    /overlap/i,
    "range set overlaps with",
  ],
  ["an empty range set", { ranges: [[]] }, /empty|range/i, "empty range set"],
  ["no range at all", {}, /range|subnet/i, "no IP ranges specified"],
  [
    "ranges that are no lists of lists",
    { ranges: [{ subnet: "10.77.0.0/24" }] },
    /range|unmarshal|list|array/i,
    "cannot unmarshal",
  ],
  [
    "a route without a network",
    { subnet: "10.77.0.0/24", routes: [{ dst: "192.0.2.1" }] },
    /192\.0\.2\.1/,
    "invalid CIDR address",
  ],
  [
    "a resolvConf that is not there",
    { subnet: "10.77.0.0/24", resolvConf: "/nonexistent/resolv.conf" },
    /\/nonexistent\/resolv\.conf/,
    "no such file or directory",
  ],
];

const options = { plugin: "host-local" } as const;

export const refusalCases: readonly Case[] = [
  ...refusals.map(
    ([title, ipam, names, message]): Case => ({
      title: `${title} is refused by name`,
      source: `plugins host-local: ${message}`,
      run: (lab) =>
        lab.refuse(ipamConfig({ type: "host-local", dataDir: lab.dataDir, ...ipam }), names, options),
    }),
  ),
  {
    title: "a gateway outside of the subnet is refused, or taken as it is",
    source: "plugins host-local: the gateway is not compared with the subnet",
    async run(lab) {
      const config = request(lab, { gateway: "192.0.2.1" });
      const container = await lab.container();
      const reply = await lab.call("ADD", config, { ...options, container });
      (await lab.call("DEL", config, { ...options, container })).expectSilence();
      if (!reply.succeeded) reply.expectError({ names: /192\.0\.2\.1/ });
      else expect(JSON.stringify(reply.expectJson()).includes("192.0.2.1"), "the gateway was changed");
    },
  },
  {
    title: "a config without ipam is refused",
    source: "plugins host-local: IPAM config missing 'ipam' key",
    run: (lab) => lab.refuse({ cniVersion: "1.0.0", name: "net-a", type: "bridge" }, /ipam/i, options),
  },
  {
    title: "refused configurations carry code 7",
    source: "SPEC 1.1.0, Error: code 7",
    reference: "code 999 for nearly all faults",
    async run(lab) {
      const container = await lab.container();
      const others: string[] = [];
      for (const [title, ipam] of refusals) {
        const config = ipamConfig({ type: "host-local", dataDir: lab.dataDir, ...ipam });
        const error = (await lab.call("ADD", config, { ...options, container })).expectError();
        // A file that can't be read is an I/O failure as well as a fault of the config.
        const io = title.startsWith("a resolvConf") && error.code === code.ioFailure;
        if (error.code !== code.invalidConfig && !io) others.push(`${title}: ${error.code}`);
      }
      expect(
        others.length === 0,
        `${others.length} of ${refusals.length} have another code: ${others.join("; ")}`,
      );
    },
  },
];
