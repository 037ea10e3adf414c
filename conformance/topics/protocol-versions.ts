import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, gateway4, gateway6, hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { isObject, readResult, show } from "#conformance/printed-result.ts";
import { code } from "#conformance/reply.ts";
import { list, object, readLink, text } from "#conformance/witness.ts";

/** The released versions of the specification, oldest first. */
const allVersions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const withInterfaces = allVersions.slice(2);
/** These take every version; firewall, vrf and bandwidth of the reference do not. */
const fullRange = ["bridge", "host", "none", "loopback", "host-local", "static", "portmap", "dns"];

const beforeGc = "v1.1.1 ends at specification 1.0.0";

async function versionOf(lab: Lab, plugin: string, stdin: string): Promise<JsonObject> {
  const reply = await lab.call("VERSION", stdin, { plugin, environment: { CNI_PATH: undefined } });
  return reply.expectJson();
}

function stubVersion(version: string): JsonObject {
  return { cniVersion: version };
}

/** ADD of a dual-stack bridge at one version; DEL follows. */
async function printed(lab: Lab, version: string | undefined, extra: JsonObject = {}): Promise<JsonObject> {
  const container = await lab.container();
  const routes = [
    { dst: "0.0.0.0/0" },
    { dst: "192.0.2.0/24", gw: "10.77.0.9" },
    { dst: "::/0", gw: gateway6 },
  ];
  const config = bridgeConfig(lab, {
    cniVersion: version,
    isGateway: true,
    dns: {
      nameservers: ["192.0.2.53"],
      domain: "example.test",
      search: ["a.test", "b.test"],
      options: ["ndots:2"],
    },
    ipam: dualStack(lab, { routes }),
    ...extra,
  });
  const reply = await lab.call("ADD", config, { container });
  const json = reply.expectJson();
  (await lab.call("DEL", config, { container })).expectSilence();
  return json;
}

function expectOldShape(json: JsonObject, version: string): void {
  expectEqual(json["cniVersion"], version, "cniVersion of the result");
  for (const key of ["interfaces", "ips", "routes"])
    expect(!(key in json), `a result of ${version} has ${key}`);
  const ip4 = object(json["ip4"]);
  const ip6 = object(json["ip6"]);
  expectEqual(ip4["ip"], "10.77.0.2/24", "ip4.ip");
  expectEqual(ip4["gateway"], gateway4, "ip4.gateway");
  expectEqual(ip6["ip"], "fd00:77::2/64", "ip6.ip");
  expectEqual(
    list(ip4["routes"]).map((route) => text(object(route)["dst"])),
    ["0.0.0.0/0", "192.0.2.0/24"],
    "destinations of ip4.routes",
  );
  expectEqual(
    list(ip6["routes"]).map((route) => text(object(route)["dst"])),
    ["::/0"],
    "destinations of ip6.routes",
  );
  expectEqual(object(json["dns"])["nameservers"], ["192.0.2.53"], "dns.nameservers");
}

export const versionCases: readonly Case[] = [
  {
    title: "VERSION is answered by every executable with nothing but CNI_COMMAND set",
    source: "SPEC 1.1.0, VERSION",
    async run(lab) {
      for (const plugin of lab.bench.executables) {
        const json = await versionOf(lab, plugin, JSON.stringify(stubVersion("1.0.0")));
        const supported = json["supportedVersions"];
        expect(Array.isArray(supported), `${plugin}: supportedVersions is ${show(supported)}`);
        expect(
          typeof json["cniVersion"] === "string",
          `${plugin}: cniVersion is ${show(json["cniVersion"])}`,
        );
        expect(supported.includes("1.0.0"), `${plugin} does not support 1.0.0: ${show(supported)}`);
      }
    },
  },
  {
    title: "VERSION lists every version from 0.1.0 to 1.1.0",
    source: "SPEC 1.1.0, VERSION",
    reference: beforeGc,
    async run(lab) {
      for (const plugin of fullRange.filter((name) => lab.has(name))) {
        const json = await versionOf(lab, plugin, JSON.stringify(stubVersion("1.1.0")));
        const missing = allVersions.filter((version) => !list(json["supportedVersions"]).includes(version));
        expect(missing.length === 0, `${plugin} does not list ${missing.join(", ")}`);
      }
    },
  },
  {
    title: "VERSION does not depend on stdin",
    source: "cni skel, VERSION; libcni sends a cniVersion alone",
    async run(lab) {
      for (const stdin of ["", "garbage", "{}", JSON.stringify(stubVersion("9.9.9"))])
        await versionOf(lab, "bridge", stdin);
    },
  },
  {
    title: "VERSION is answered with the placeholders that libcni sends",
    source: "libcni, GetVersionInfo",
    async run(lab) {
      const environment = { CNI_NETNS: "dummy", CNI_IFNAME: "dummy", CNI_PATH: "dummy" };
      const reply = await lab.call("VERSION", stubVersion("1.1.0"), { plugin: "bridge", environment });
      reply.expectJson();
    },
  },
  {
    title: "the version of VERSION's answer is the one asked for or one that is supported",
    source: "SPEC 1.1.0, VERSION: cniVersion",
    async run(lab) {
      const json = await versionOf(lab, "bridge", JSON.stringify(stubVersion("0.4.0")));
      const version = text(json["cniVersion"]);
      expect(
        version === "0.4.0" || list(json["supportedVersions"]).includes(version),
        `cniVersion is ${show(json["cniVersion"])}`,
      );
    },
  },
  {
    title: "a version that nobody knows is refused, code 1",
    source: "SPEC 1.1.0, Error: code 1",
    async run(lab) {
      for (const version of ["0.5.0", "1.0", "1.0.0-rc1", "2.0.0", "9.9.9"])
        await lab.refuse(bridgeConfig(lab, { cniVersion: version }), [], { code: code.incompatibleVersion });
    },
  },
  {
    title: "a version that is no version is refused, code 1 or 6",
    source: "SPEC 1.1.0, Error: codes 1 and 6",
    async run(lab) {
      for (const version of ["abc", "1", " 1.0.0"]) {
        await lab.refuse(bridgeConfig(lab, { cniVersion: version }), [], {
          code: [code.incompatibleVersion, code.decodingFailure],
        });
      }
    },
  },
  ...["0.1.0", "0.2.0"].map(
    (version): Case => ({
      title: `a result of ${version} has ip4 and ip6 with their routes, and no interfaces`,
      source: `SPEC ${version}, Result`,
      run: async (lab) => expectOldShape(await printed(lab, version), version),
    }),
  ),
  {
    title: "without cniVersion the version is 0.1.0",
    source: "SPEC 0.1.0; cni version.ConfigDecoder",
    async run(lab) {
      for (const [name, version] of [
        ["absent", undefined],
        ["empty", ""],
      ] as const) {
        const json = await printed(lab, version, { name });
        const said = json["cniVersion"];
        expect(
          said === "0.1.0" || said === undefined || said === "",
          `cniVersion of the result is ${show(said)}`,
        );
        expectOldShape({ ...json, cniVersion: "0.1.0" }, "0.1.0");
      }
    },
  },
  ...withInterfaces.map(
    (version): Case => ({
      title: `a result of ${version} has the shape of ${version}`,
      source: `SPEC ${version}, ADD: result`,
      ...(version === "1.1.0" ? { reference: beforeGc } : {}),
      async run(lab) {
        const json = await printed(lab, version);
        const result = readResult(json, version);
        expectEqual(
          result.ips.map((entry) => entry.address),
          ["10.77.0.2/24", "fd00:77::2/64"],
          "addresses of ips",
        );
        expectEqual(
          result.ips.map((entry) => entry.gateway),
          [gateway4, gateway6],
          "gateways of ips",
        );
        expectEqual(
          result.ips.map((entry) => entry.interface),
          [2, 2],
          "interface indices of ips",
        );
        expectEqual(
          result.routes.map((route) => route.dst),
          ["0.0.0.0/0", "192.0.2.0/24", "::/0"],
          "destinations of routes",
        );
        expectEqual(
          result.dns,
          {
            nameservers: ["192.0.2.53"],
            domain: "example.test",
            search: ["a.test", "b.test"],
            options: ["ndots:2"],
          },
          "dns",
        );
      },
    }),
  ),
  {
    title: "at 0.2.0 a network without addresses is an error or an empty result, and leaves nothing",
    source: "SPEC 0.2.0, Result; SPEC 1.1.0, ADD",
    reference: "the link stays when the result cannot be printed",
    async run(lab) {
      const container = await lab.container();
      const config = bridgeConfig(lab, { cniVersion: "0.2.0", ipam: undefined });
      const reply = await lab.call("ADD", config, { container });
      if (!reply.succeeded) {
        reply.expectError();
        const link = await readLink(container.namespace, "eth0");
        expect(link === undefined, "eth0 stays in the container after the error");
        return;
      }
      expectEqual(reply.expectJson()["cniVersion"], "0.2.0", "cniVersion of the result");
      (await lab.call("DEL", config, { container })).expectSilence();
    },
  },
  {
    title: "CHECK is refused below 0.4.0, code 1",
    source: "SPEC 0.4.0, CHECK",
    async run(lab) {
      for (const version of ["0.2.0", "0.3.1"]) {
        const container = await lab.container();
        const reply = await lab.call(
          "CHECK",
          plainConfig("bridge", { cniVersion: version, ipam: hostLocal(lab) }),
          { container },
        );
        reply.expectError({ code: code.incompatibleVersion });
      }
    },
  },
  ...["GC", "STATUS"].map(
    (verb): Case => ({
      title: `${verb} is refused below 1.1.0, code 1`,
      source: `SPEC 1.1.0, ${verb}`,
      reference: `v1.1.1 does not know ${verb}`,
      async run(lab) {
        for (const version of ["0.4.0", "1.0.0"]) {
          const reply = await lab.call(verb, bridgeConfig(lab, { cniVersion: version }));
          reply.expectError({ code: code.incompatibleVersion });
        }
      },
    }),
  ),
  {
    title: "ADD and DEL work at every version that VERSION lists",
    source: "SPEC 1.1.0, VERSION",
    async run(lab) {
      const json = await versionOf(lab, "bridge", JSON.stringify(stubVersion("1.0.0")));
      for (const version of list(json["supportedVersions"]).map(text)) {
        const container = await lab.container();
        const config = bridgeConfig(lab, { cniVersion: version });
        (await lab.call("ADD", config, { container })).expectJson();
        (await lab.call("DEL", config, { container })).expectSilence();
      }
    },
  },
  {
    title: "prevResult is read in the shape of its version",
    source: "SPEC 0.4.0 and 1.0.0, prevResult",
    executables: ["loopback"],
    async run(lab) {
      const shapes: readonly (readonly [string, JsonObject])[] = [
        ["0.2.0", { ip4: { ip: "192.0.2.7/24", gateway: "192.0.2.1" } }],
        [
          "0.4.0",
          {
            interfaces: [{ name: "x" }],
            ips: [{ version: "4", address: "192.0.2.7/24", gateway: "192.0.2.1", interface: 0 }],
          },
        ],
        [
          "1.0.0",
          {
            interfaces: [{ name: "x" }],
            ips: [{ address: "192.0.2.7/24", gateway: "192.0.2.1", interface: 0 }],
          },
        ],
      ];
      for (const [version, body] of shapes) {
        for (const stamped of [{ cniVersion: version, ...body }, body]) {
          const config = plainConfig("loopback", { cniVersion: version, prevResult: stamped });
          const reply = await lab.call("ADD", config, { container: await lab.container(), ifName: "lo" });
          const json = reply.expectJson();
          const ips = isObject(json["ip4"]) ? json["ip4"]["ip"] : object(list(json["ips"])[0])["address"];
          expectEqual(ips, "192.0.2.7/24", `address passed on at ${version}`);
        }
      }
    },
  },
  {
    title: "an interface index of 0 and none at all stay apart in prevResult",
    source: "SPEC 1.0.0, ips: interface (optional)",
    executables: ["loopback"],
    async run(lab) {
      const prevResult = {
        cniVersion: "1.0.0",
        interfaces: [{ name: "eth0", sandbox: "/run/netns/x" }],
        ips: [{ address: "192.0.2.7/24", interface: 0 }, { address: "192.0.2.8/24" }],
      };
      const container = await lab.container();
      const attachment = await lab.attach(plainConfig("loopback", { prevResult }), container, {
        ifName: "lo",
      });
      expectEqual(
        attachment.result.ips.map((entry) => entry.interface ?? null),
        [0, null],
        "interface indices of ips",
      );
    },
  },
  {
    title: "the fields that 1.1.0 added are passed on",
    source: "SPEC 1.1.0, ADD: interfaces[].mtu, routes[].mtu, advmss, priority, table, scope",
    executables: ["loopback"],
    reference: beforeGc,
    async run(lab) {
      const route = {
        dst: "198.51.100.0/24",
        gw: "192.0.2.1",
        mtu: 1300,
        advmss: 1200,
        priority: 7,
        table: 100,
        scope: 0,
      };
      const link = {
        name: "eth0",
        mac: "02:00:00:00:00:01",
        mtu: 1400,
        sandbox: "/run/netns/x",
        socketPath: "/run/s",
        pciID: "0000:00:01.0",
      };
      const prevResult = { cniVersion: "1.1.0", interfaces: [link], ips: [], routes: [route] };
      const config = plainConfig("loopback", { cniVersion: "1.1.0", prevResult });
      const attachment = await lab.attach(config, await lab.container(), { ifName: "lo" });
      expectEqual(object(list(attachment.result.json["interfaces"])[0]), link, "the interface");
      expectEqual(attachment.result.routes[0]?.json, route, "the route");
    },
  },
  {
    title: "errors carry code, msg and cniVersion",
    source: "SPEC 1.1.0, Error",
    reference: "the error type of cni has no cniVersion",
    async run(lab) {
      const reply = await lab.call("ADD", bridgeConfig(lab, { mtu: "x" }), {
        container: await lab.container(),
      });
      const error = reply.expectError();
      const version = text(error.json["cniVersion"]);
      expect(allVersions.includes(version), `cniVersion of the error is ${show(error.json["cniVersion"])}`);
    },
  },
  {
    title: "a refusal ends with exit code 1",
    source: "cni skel, PluginMain",
    async run(lab) {
      const reply = await lab.call("ADD", bridgeConfig(lab, { name: "" }), {
        container: await lab.container(),
      });
      reply.expectError();
      expectEqual(reply.completed.exitCode, 1, "exit code");
    },
  },
];
