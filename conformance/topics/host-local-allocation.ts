import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { hostLocal, ipamConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { CallOptions, Container, Lab } from "#conformance/lab.ts";
import { list, object } from "#conformance/witness.ts";

type Fields = Readonly<Record<string, JsonValue | undefined>>;

/** A request to host-local on its own; `ipam` on top of one range in 10.77.0.0/24. */
export function request(lab: Lab, ipam: Fields = {}, extra: Fields = {}): JsonObject {
  return ipamConfig(hostLocal(lab, ipam), extra);
}

export function lease(
  lab: Lab,
  config: JsonObject,
  container: Container,
  options: Partial<CallOptions> = {},
): Promise<Attachment> {
  return lab.attach(config, container, { plugin: "host-local", ...options });
}

/** The addresses that `count` containers in a row get. */
async function take(lab: Lab, config: JsonObject, count: number): Promise<readonly Attachment[]> {
  const first = await lab.container();
  const attachments: Attachment[] = [];
  for (let at = 0; at < count; at += 1) {
    attachments.push(await lease(lab, config, at === 0 ? first : lab.sibling(first)));
  }
  return attachments;
}

function ips(attachments: readonly Attachment[]): readonly string[] {
  return attachments.map((attachment) => attachment.ip());
}

function addresses(attachment: Attachment): readonly string[] {
  return attachment.result.ips.map((entry) => entry.address);
}

const readme = "host-local README";

export const allocationCases: readonly Case[] = [
  {
    title: "the first address is the one after the gateway, which is the network's first",
    source: `${readme}, rangeStart, gateway`,
    async run(lab) {
      const [attachment] = await take(lab, request(lab), 1);
      expectEqual(
        attachment?.result.ips[0],
        { address: "10.77.0.2/24", ip: "10.77.0.2", gateway: "10.77.0.1" },
        "ips[0]",
      );
    },
  },
  {
    title: "the result of an IPAM has no interfaces, and ips without interface index",
    source: "SPEC 1.1.0, Delegated Plugins (IPAM)",
    async run(lab) {
      const [attachment] = await take(lab, request(lab), 1);
      expectEqual(attachment?.result.interfaces, [], "interfaces");
      expect(!("interface" in object(list(attachment?.result.json["ips"])[0])), "ips[0] has an interface");
    },
  },
  {
    title: "addresses go round: one that was freed is not given out again at once",
    source: `${readme}; plugins host-local allocator`,
    async run(lab) {
      const [first] = await take(lab, request(lab), 1);
      (await first?.del())?.expectSilence();
      expectEqual(
        ips(await take(lab, request(lab), 2)),
        ["10.77.0.3", "10.77.0.4"],
        "the next two addresses",
      );
    },
  },
  {
    title: "after the last address of the range comes the first free one",
    source: "plugins host-local allocator",
    async run(lab) {
      const config = request(lab, { rangeStart: "10.77.0.10", rangeEnd: "10.77.0.12" });
      const attachments = await take(lab, config, 3);
      expectEqual(
        ips(attachments),
        ["10.77.0.10", "10.77.0.11", "10.77.0.12"],
        "the three addresses of the range",
      );
      (await attachments[1]?.del())?.expectSilence();
      expectEqual(ips(await take(lab, config, 1)), ["10.77.0.11"], "the next address");
    },
  },
  {
    title: "an exhausted range is an error that names the range",
    source: "plugins host-local: no IP addresses available in range set",
    async run(lab) {
      const config = request(lab, { rangeStart: "10.77.0.10", rangeEnd: "10.77.0.11" });
      await take(lab, config, 2);
      const reply = await lab.call("ADD", config, { plugin: "host-local", container: await lab.container() });
      reply.expectError({ names: /10\.77\.0\.10.*10\.77\.0\.11|10\.77\.0\.0\/24/ });
    },
  },
  {
    title: "rangeStart and rangeEnd belong to the range",
    source: `${readme}, rangeStart, rangeEnd`,
    async run(lab) {
      expectEqual(
        ips(await take(lab, request(lab, { rangeStart: "10.77.0.200", rangeEnd: "10.77.0.201" }), 2)),
        ["10.77.0.200", "10.77.0.201"],
        "addresses",
      );
    },
  },
  {
    title: "neither network, broadcast nor gateway address is given out",
    source: `${readme}; RFC 919`,
    async run(lab) {
      const config = request(lab, { subnet: "10.77.0.0/29" });
      expectEqual(
        ips(await take(lab, config, 5)),
        ["10.77.0.2", "10.77.0.3", "10.77.0.4", "10.77.0.5", "10.77.0.6"],
        "addresses",
      );
      (
        await lab.call("ADD", config, { plugin: "host-local", container: await lab.container() })
      ).expectError();
    },
  },
  {
    title: "a gateway in the middle of the range is left out and named in the result",
    source: `${readme}, gateway`,
    async run(lab) {
      const attachments = await take(
        lab,
        request(lab, { rangeStart: "10.77.0.20", gateway: "10.77.0.21" }),
        2,
      );
      expectEqual(ips(attachments), ["10.77.0.20", "10.77.0.22"], "addresses");
      expectEqual(attachments[0]?.address().gateway, "10.77.0.21", "gateway");
    },
  },
  {
    title: "a /30 has one address besides the gateway",
    source: "plugins host-local: too small to allocate from is only /31 and /32",
    async run(lab) {
      expectEqual(
        ips(await take(lab, request(lab, { subnet: "10.77.0.0/30" }), 1)),
        ["10.77.0.2"],
        "addresses",
      );
    },
  },
  {
    title: "IPv6 starts behind the gateway too, and has a last address of all ones",
    source: `${readme}, ranges`,
    async run(lab) {
      const [attachment] = await take(lab, request(lab, { subnet: "2001:db8:7::/64" }), 1);
      expectEqual(
        attachment?.result.ips[0],
        { address: "2001:db8:7::2/64", ip: "2001:db8:7::2", gateway: "2001:db8:7::1" },
        "ips[0]",
      );
      const small = await take(lab, request(lab, { subnet: "2001:db8:8::/126" }, { name: "net-6" }), 2);
      expectEqual(
        small.map((one) => one.ip(6)),
        ["2001:db8:8::2", "2001:db8:8::3"],
        "addresses of a /126",
      );
    },
  },
  {
    title: "each range set gives one address",
    source: `${readme}, ranges`,
    async run(lab) {
      const ranges = [
        [{ subnet: "10.77.0.0/24" }],
        [{ subnet: "10.78.0.0/24" }],
        [{ subnet: "fd00:77::/64" }],
      ];
      const [attachment] = await take(lab, request(lab, { ranges }), 1);
      expectEqual(
        attachment && addresses(attachment),
        ["10.77.0.2/24", "10.78.0.2/24", "fd00:77::2/64"],
        "addresses",
      );
    },
  },
  {
    title: "the ranges of one set are alternatives, used up in order",
    source: `${readme}, ranges`,
    async run(lab) {
      const ranges = [
        [
          { subnet: "10.77.0.0/24", rangeStart: "10.77.0.10", rangeEnd: "10.77.0.11" },
          { subnet: "10.78.0.0/24", rangeStart: "10.78.0.10", rangeEnd: "10.78.0.10" },
        ],
      ];
      const attachments = await take(lab, request(lab, { ranges }), 3);
      expectEqual(ips(attachments), ["10.77.0.10", "10.77.0.11", "10.78.0.10"], "addresses");
      expectEqual(
        attachments.map((one) => one.address().gateway),
        ["10.77.0.1", "10.77.0.1", "10.78.0.1"],
        "gateways",
      );
    },
  },
  {
    title: "the single range stands before ranges",
    source: `${readme}, ranges; plugins host-local config`,
    async run(lab) {
      const ranges = [[{ subnet: "10.78.0.0/24" }]];
      const [attachment] = await take(lab, request(lab, { subnet: "10.77.0.0/24", ranges }), 1);
      expectEqual(attachment && addresses(attachment), ["10.77.0.2/24", "10.78.0.2/24"], "addresses");
    },
  },
  {
    title: "runtimeConfig.ipRanges stands before the config's own",
    source: "CONVENTIONS, ipRanges; plugins host-local config",
    async run(lab) {
      const runtimeConfig = { ipRanges: [[{ subnet: "10.79.0.0/24" }]] };
      const config = request(lab, {}, { capabilities: { ipRanges: true }, runtimeConfig });
      const [attachment] = await take(lab, config, 1);
      expectEqual(attachment && addresses(attachment), ["10.79.0.2/24", "10.77.0.2/24"], "addresses");
      const bare = ipamConfig({ type: "host-local", dataDir: lab.dataDir }, { name: "net-b", runtimeConfig });
      const [alone] = await take(lab, bare, 1);
      expectEqual(
        alone && addresses(alone),
        ["10.79.0.2/24"],
        "addresses without a range of the config's own",
      );
    },
  },
  {
    title: "routes and resolvConf become routes and dns of the result",
    source: `${readme}, routes, resolvConf`,
    async run(lab) {
      const resolvConf = `${lab.directory}/resolv.conf`;
      await lab.host.shell(
        `printf '# made\\n; by hand\\nnameserver 192.0.2.53\\nnameserver 2001:db8::53\\ndomain a.test\\nsearch b.test c.test\\noptions ndots:2 timeout:1\\n' > ${resolvConf}`,
      );
      const routes = [{ dst: "0.0.0.0/0" }, { dst: "192.0.2.0/24", gw: "10.77.0.9" }];
      const [attachment] = await take(lab, request(lab, { routes, resolvConf }), 1);
      expectEqual(
        attachment?.result.routes.map((route) => route.json),
        routes,
        "routes",
      );
      expectEqual(
        attachment?.result.dns,
        {
          nameservers: ["192.0.2.53", "2001:db8::53"],
          domain: "a.test",
          search: ["b.test", "c.test"],
          options: ["ndots:2", "timeout:1"],
        },
        "dns",
      );
    },
  },
  ...(
    [
      ["CNI_ARGS", {}, "IP=10.77.0.41"],
      ["CNI_ARGS with a prefix", {}, "IP=10.77.0.41/24"],
      ["args.cni.ips", { args: { cni: { ips: ["10.77.0.41"] } } }, undefined],
      ["runtimeConfig.ips", { runtimeConfig: { ips: ["10.77.0.41/16"] } }, undefined],
    ] as const
  ).map(
    ([name, extra, args]): Case => ({
      title: `an address asked for by ${name} is given`,
      source: `${readme}, CNI_ARGS and runtimeConfig.ips; CONVENTIONS`,
      async run(lab) {
        const options = args === undefined ? {} : { args };
        const attachment = await lease(lab, request(lab, {}, extra), await lab.container(), options);
        expectEqual(addresses(attachment), ["10.77.0.41/24"], "addresses");
      },
    }),
  ),
  {
    title: "one address for each range set may be asked for",
    source: "plugins host-local: requested IPs",
    async run(lab) {
      const ranges = [[{ subnet: "10.77.0.0/24" }], [{ subnet: "fd00:77::/64" }]];
      const config = request(lab, { ranges }, { runtimeConfig: { ips: ["fd00:77::41", "10.77.0.41"] } });
      expectEqual(
        addresses(await lease(lab, config, await lab.container())),
        ["10.77.0.41/24", "fd00:77::41/64"],
        "addresses",
      );
    },
  },
  {
    title: "addresses asked for by different channels are all given",
    source: "plugins host-local: union of CNI_ARGS, args and runtimeConfig",
    async run(lab) {
      const ranges = [[{ subnet: "10.77.0.0/24" }], [{ subnet: "fd00:77::/64" }]];
      const config = request(lab, { ranges }, { args: { cni: { ips: ["fd00:77::41"] } } });
      const attachment = await lease(lab, config, await lab.container(), { args: "IP=10.77.0.41" });
      expectEqual(addresses(attachment), ["10.77.0.41/24", "fd00:77::41/64"], "addresses");
    },
  },
  ...(
    [
      ["outside of every range", "10.99.0.1", /10\.99\.0\.1/],
      ["that is the gateway's", "10.77.0.1", /10\.77\.0\.1/],
      ["that is no address", "10.77.0.999", /10\.77\.0\.999/],
    ] as const
  ).map(
    ([name, ip, names]): Case => ({
      title: `an address asked for ${name} is refused and named`,
      source: "plugins host-local: failed to allocate all requested IPs",
      async run(lab) {
        await lab.refuse(request(lab, {}, { runtimeConfig: { ips: [ip] } }), names, { plugin: "host-local" });
      },
    }),
  ),
  {
    title: "an address asked for that is taken is refused, and its owner keeps it",
    source: "plugins host-local: requested IP address is not available in range set",
    async run(lab) {
      const config = request(lab, {}, { runtimeConfig: { ips: ["10.77.0.41"] } });
      const owner = await lease(lab, config, await lab.container());
      const reply = await lab.call("ADD", config, { plugin: "host-local", container: await lab.container() });
      reply.expectError({ names: /10\.77\.0\.41/ });
      (await owner.check()).expectSilence();
    },
  },
  {
    title: "asking for one address does not move the turn of the others",
    source: "plugins host-local: last_reserved_ip",
    async run(lab) {
      await lease(lab, request(lab, {}, { runtimeConfig: { ips: ["10.77.0.41"] } }), await lab.container());
      const after = await lease(lab, request(lab), await lab.container());
      // The reference does write the address down as the last one: both are good answers.
      expect(["10.77.0.2", "10.77.0.42"].includes(after.ip()), `the next address is ${after.ip()}`);
    },
  },
  {
    title: "a second address for one interface is refused, and the first is named",
    source: "plugins host-local: duplicate allocation is not allowed",
    async run(lab) {
      const attachment = await lease(lab, request(lab), await lab.container());
      const reply = await lab.call("ADD", request(lab), {
        plugin: "host-local",
        container: attachment.container,
      });
      reply.expectError({ names: /10\.77\.0\.2/ });
    },
  },
  {
    title: "a second interface of the container gets an address of its own",
    source: "plugins host-local: id and interface",
    async run(lab) {
      const first = await lease(lab, request(lab), await lab.container());
      const second = await lease(lab, request(lab), first.container, { ifName: "eth1" });
      expectEqual(second.ip(), "10.77.0.3", "address of eth1");
      (await first.del()).expectSilence();
      (await second.check()).expectSilence();
    },
  },
  {
    title: "a set that is exhausted gives back the addresses of the sets before it",
    source: "plugins host-local: cleanup on failure",
    async run(lab) {
      const ranges = [
        [{ subnet: "10.77.0.0/24" }],
        [{ subnet: "10.78.0.0/24", rangeStart: "10.78.0.7", rangeEnd: "10.78.0.7" }],
      ];
      await lease(lab, request(lab, { ranges }), await lab.container());
      const reply = await lab.call("ADD", request(lab, { ranges }), {
        plugin: "host-local",
        container: await lab.container(),
      });
      reply.expectError({ names: /10\.78\.0\.7|10\.78\.0\.0/ });
      const files = (await lab.host.shell(`ls ${lab.dataDir}/net-a`))
        .split("\n")
        .filter((name) => name.startsWith("10."));
      expectEqual(files, ["10.77.0.2", "10.78.0.7"], "leases");
    },
  },
  {
    title: "below 0.3.0 one address a family is the limit",
    source: "plugins host-local: CNI version does not support more than 1 address per family",
    async run(lab) {
      const ranges = [[{ subnet: "10.77.0.0/24" }], [{ subnet: "10.78.0.0/24" }]];
      await lab.refuse(request(lab, { ranges }, { cniVersion: "0.2.0" }), /0\.2\.0/, {
        plugin: "host-local",
      });
    },
  },
  {
    title: "CHECK is silent for a lease and an error without one",
    source: "plugins host-local, CHECK",
    async run(lab) {
      const attachment = await lease(lab, request(lab), await lab.container());
      (await attachment.check()).expectSilence();
      const { container } = attachment;
      const config = { ...attachment.config, prevResult: attachment.result.json };
      const options = { plugin: "host-local" };
      (
        await lab.call("CHECK", config, { ...options, container: lab.sibling(container, "another") })
      ).expectError();
      (await lab.call("CHECK", config, { ...options, container, ifName: "eth1" })).expectError();
      (await attachment.del()).expectSilence();
      (await attachment.check()).expectError({ names: new RegExp(container.id) });
    },
  },
  {
    title: "DEL frees the addresses of that interface alone, and any number of times",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const first = await lease(lab, request(lab), await lab.container());
      const second = await lease(lab, request(lab), lab.sibling(first.container));
      for (let time = 0; time < 3; time += 1) (await first.del()).expectSilence();
      (await first.del({ netns: "" })).expectSilence();
      (await first.check()).expectError();
      (await second.check()).expectSilence();
    },
  },
  {
    title: "DEL without a lease, a network or a directory succeeds",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const container = await lab.container();
      for (const config of [request(lab), request(lab, {}, { name: "never-seen" })])
        (await lab.call("DEL", config, { plugin: "host-local", container })).expectSilence();
    },
  },
];
