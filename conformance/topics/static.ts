import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, ipamConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { CallOptions, Lab } from "#conformance/lab.ts";
import { code } from "#conformance/reply.ts";
import { readAddresses, readRoutes } from "#conformance/witness.ts";

type Fields = Readonly<Record<string, JsonValue | undefined>>;

const readme = "static README";
const options = { plugin: "static" } as const;
const one = { address: "10.77.0.5/24", gateway: "10.77.0.1" };

function request(ipam: JsonObject, extra: Fields = {}): JsonObject {
  return ipamConfig({ type: "static", ...ipam }, extra);
}

async function assign(lab: Lab, config: JsonObject, more: Partial<CallOptions> = {}): Promise<Attachment> {
  return lab.attach(config, await lab.container(), { ...options, ...more });
}

function addresses(attachment: Attachment): readonly string[] {
  return attachment.result.ips.map((entry) => entry.address);
}

export const staticCases: readonly Case[] = [
  {
    title: "addresses, gateways, routes and dns of the config become those of the result",
    source: readme,
    async run(lab) {
      const ipam = {
        addresses: [one, { address: "fd00:77::5/64", gateway: "fd00:77::1" }],
        routes: [{ dst: "0.0.0.0/0" }, { dst: "192.0.2.0/24", gw: "10.77.0.9" }],
        dns: { nameservers: ["192.0.2.53"], domain: "a.test", search: ["b.test"], options: ["ndots:2"] },
      };
      const attachment = await assign(lab, request(ipam));
      expectEqual(
        attachment.result.ips.map(({ address, gateway }) => ({ address, gateway })),
        ipam.addresses,
        "ips",
      );
      expectEqual(
        attachment.result.routes.map((route) => route.json),
        ipam.routes,
        "routes",
      );
      expectEqual(attachment.result.dns, ipam.dns, "dns");
      expectEqual(attachment.result.interfaces, [], "interfaces");
    },
  },
  {
    title: "an address keeps its host bits, and needs no gateway",
    source: readme,
    async run(lab) {
      const attachment = await assign(lab, request({ addresses: [{ address: "10.77.0.77/16" }] }));
      expectEqual(
        attachment.result.ips.map(({ address, gateway }) => [address, gateway ?? null]),
        [["10.77.0.77/16", null]],
        "ips",
      );
    },
  },
  {
    title: "several gateways for one destination are all kept",
    source: "static plugin tests",
    async run(lab) {
      const routes = ["10.77.0.8", "10.77.0.9"].map((gw) => ({ dst: "192.0.2.0/24", gw }));
      const attachment = await assign(lab, request({ addresses: [one], routes }));
      expectEqual(
        attachment.result.routes.map((route) => route.gw),
        ["10.77.0.8", "10.77.0.9"],
        "gateways of routes",
      );
    },
  },
  {
    title: "IP in CNI_ARGS adds addresses, GATEWAY gives them gateways",
    source: `${readme}, CNI_ARGS`,
    async run(lab) {
      const args = "IP=10.77.0.6/24,fd00:77::6/64;GATEWAY=10.77.0.254,fd00:77::254";
      const attachment = await assign(lab, request({}), { args });
      expectEqual(
        attachment.result.ips.map(({ address, gateway }) => ({ address, gateway })),
        [
          { address: "10.77.0.6/24", gateway: "10.77.0.254" },
          { address: "fd00:77::6/64", gateway: "fd00:77::254" },
        ],
        "ips",
      );
    },
  },
  {
    title: "IP in CNI_ARGS comes after the config's addresses",
    source: `${readme}, CNI_ARGS`,
    async run(lab) {
      const attachment = await assign(lab, request({ addresses: [one] }), { args: "IP=10.78.0.6/24" });
      expectEqual(addresses(attachment), ["10.77.0.5/24", "10.78.0.6/24"], "addresses");
    },
  },
  {
    title: "GATEWAY in CNI_ARGS goes to the addresses whose subnet it is in",
    source: `${readme}, CNI_ARGS`,
    async run(lab) {
      const attachment = await assign(lab, request({}), {
        args: "IP=10.77.0.6/24,10.78.0.6/24;GATEWAY=10.78.0.254",
      });
      expectEqual(
        attachment.result.ips.map((entry) => entry.gateway ?? null),
        [null, "10.78.0.254"],
        "gateways",
      );
    },
  },
  {
    title: "args.cni.ips takes the place of the config's addresses",
    source: `${readme}, args; CONVENTIONS`,
    async run(lab) {
      const attachment = await assign(
        lab,
        request({ addresses: [one] }, { args: { cni: { ips: ["10.79.0.6/24"] } } }),
      );
      expectEqual(addresses(attachment), ["10.79.0.6/24"], "addresses");
    },
  },
  {
    title: "runtimeConfig.ips takes the place of all others",
    source: `${readme}, runtimeConfig; CONVENTIONS`,
    async run(lab) {
      const extra = {
        args: { cni: { ips: ["10.79.0.6/24"] } },
        capabilities: { ips: true },
        runtimeConfig: { ips: ["10.80.0.6/24"] },
      };
      expectEqual(
        addresses(await assign(lab, request({ addresses: [one] }, extra))),
        ["10.80.0.6/24"],
        "addresses",
      );
    },
  },
  ...(
    [
      ["an address without prefix", { addresses: [{ address: "10.77.0.5" }] }, {}, undefined, /10\.77\.0\.5/],
      [
        "an address that is none",
        { addresses: [{ address: "10.77.0.555/24" }] },
        {},
        undefined,
        /10\.77\.0\.555/,
      ],
      [
        "a gateway that is none",
        { addresses: [{ address: "10.77.0.5/24", gateway: "here" }] },
        {},
        undefined,
        /here/,
      ],
      ["an IP in CNI_ARGS without prefix", {}, {}, "IP=10.77.0.6", /10\.77\.0\.6/],
      ["a GATEWAY in CNI_ARGS that is none", {}, {}, "IP=10.77.0.6/24;GATEWAY=10.77", /10\.77/],
      [
        "args.cni.ips without prefix",
        {},
        { args: { cni: { ips: ["10.79.0.6"] } } },
        undefined,
        /10\.79\.0\.6/,
      ],
      [
        "runtimeConfig.ips without prefix",
        {},
        { runtimeConfig: { ips: ["10.80.0.6"] } },
        undefined,
        /10\.80\.0\.6/,
      ],
    ] as const
  ).map(
    ([name, ipam, extra, args, names]): Case => ({
      title: `${name} is refused and named`,
      source: "static plugin: expected to be in CIDR notation, invalid gateway address",
      run: (lab) =>
        lab.refuse(request(ipam, extra), names, {
          ...options,
          ...(args === undefined ? {} : { args }),
        }),
    }),
  ),
  {
    title: "a config without ipam is refused",
    source: "static plugin: IPAM config missing 'ipam' key",
    run: (lab) => lab.refuse({ cniVersion: "1.0.0", name: "net-a", type: "bridge" }, /ipam/i, options),
  },
  {
    title: "a refused address carries code 7",
    source: "SPEC 1.1.0, Error: code 7",
    reference: "code 999 for nearly all faults",
    run: (lab) =>
      lab.refuse(request({ addresses: [{ address: "10.77.0.5" }] }), [], {
        ...options,
        code: code.invalidConfig,
      }),
  },
  {
    title: "below 0.3.0 one address a family is the limit",
    source: "static plugin: CNI version does not support more than 1 address per family",
    run: (lab) =>
      lab.refuse(
        request({ addresses: [one, { address: "10.78.0.5/24" }] }, { cniVersion: "0.2.0" }),
        /0\.2\.0/,
        options,
      ),
  },
  {
    title: "at 0.2.0 the result has ip4 and ip6",
    source: "SPEC 0.2.0, Result",
    async run(lab) {
      const config = request({ addresses: [one, { address: "fd00:77::5/64" }] }, { cniVersion: "0.2.0" });
      const json = (
        await lab.call("ADD", config, { ...options, container: await lab.container() })
      ).expectJson();
      expectEqual((json["ip4"] as JsonObject)["ip"], "10.77.0.5/24", "ip4.ip");
      expectEqual((json["ip6"] as JsonObject)["ip"], "fd00:77::5/64", "ip6.ip");
    },
  },
  {
    title: "CHECK is silent, and an error where the address is not in prevResult",
    source: "static plugin, CHECK; SPEC 1.1.0, CHECK",
    reference: "compares gateways only",
    async run(lab) {
      const attachment = await assign(lab, request({ addresses: [one] }));
      (await attachment.check()).expectSilence();
      const prevResult = { cniVersion: "1.0.0", interfaces: [], ips: [{ address: "10.99.0.5/24" }] };
      (await attachment.check({ prevResult })).expectError({ names: /10\.77\.0\.5/ });
    },
  },
  {
    title: "DEL succeeds any number of times, and changes nothing",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const attachment = await assign(lab, request({ addresses: [one] }));
      await lab.unchanged(async () => {
        for (let time = 0; time < 3; time += 1) (await attachment.del({ netns: "" })).expectSilence();
      });
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const config = request({ addresses: [one] }, { cniVersion: "1.1.0" });
      (await lab.call("GC", { ...config, "cni.dev/valid-attachments": [] }, options)).expectSilence();
      (await lab.call("STATUS", config, options)).expectSilence();
    },
  },
  {
    title: "under bridge the address and its routes are the container's",
    source: readme,
    executables: ["bridge"],
    async run(lab) {
      const ipam = { type: "static", addresses: [one], routes: [{ dst: "0.0.0.0/0" }] };
      const container = await lab.container();
      const attachment = await lab.attach(bridgeConfig(lab, { isGateway: true, ipam }), container);
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).map((address) => address.cidr),
        ["10.77.0.5/24"],
        "addresses of eth0",
      );
      const routes = await readRoutes(container.namespace);
      expect(
        routes.some((route) => route.dst === "default" && route.gateway === "10.77.0.1"),
        "no default route",
      );
      (await attachment.check()).expectSilence();
    },
  },
];
