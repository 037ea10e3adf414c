import type { JsonValue } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { code } from "#conformance/reply.ts";
import { readAddresses, readLink } from "#conformance/witness.ts";

/** What makes no sense as text of a request, and the codes that say so. */
const notJson: readonly (readonly [name: string, stdin: string])[] = [
  ["nothing", ""],
  ["an open brace", "{"],
  ["words", "not json"],
  ["a list", "[]"],
  ["a string", '"bridge"'],
  ["two objects", "{}{}"],
  ["single quotes", "{'name': 'a'}"],
  ["a trailing comma", '{"name": "a",}'],
];

const wrongTypes: readonly (readonly [field: string, value: JsonValue])[] = [
  ["mtu", "1500"],
  ["mtu", 1500.5],
  ["isGateway", "true"],
  ["isGateway", 1],
  ["bridge", 7],
  ["bridge", ["br0"]],
  ["hairpinMode", "yes"],
  ["vlan", "12"],
  ["ipam", "host-local"],
  ["ipam", []],
  ["dns", "192.0.2.53"],
  ["runtimeConfig", []],
  ["args", "x"],
];

export const stdinCases: readonly Case[] = [
  ...notJson.map(
    ([name, stdin]): Case => ({
      title: `stdin that is ${name} is refused, code 6`,
      source: "SPEC 1.1.0, Error: code 6",
      executables: ["bridge"],
      run: (lab) => lab.refuse(stdin, [], { plugin: "bridge", code: code.decodingFailure }),
    }),
  ),
  {
    title: "stdin that is null is refused",
    source: "SPEC 1.1.0, Error: codes 6 and 7",
    run: (lab) =>
      lab.refuse("null", [], { plugin: "bridge", code: [code.decodingFailure, code.invalidConfig] }),
  },
  {
    title: "bad JSON is refused by every executable, code 6, for every verb with a request",
    source: "SPEC 1.1.0, Error: code 6",
    async run(lab) {
      const container = await lab.container();
      for (const plugin of lab.bench.executables) {
        for (const verb of ["ADD", "DEL", "CHECK"]) {
          const reply = await lab.call(verb, "{bad", { plugin, container });
          reply.expectError({ code: code.decodingFailure });
        }
      }
    },
  },
  ...(
    [
      ["missing", undefined],
      ["empty", ""],
      ["with other characters than letters, digits, _, . and -", "a/b"],
      ["that starts with a dot", ".a"],
    ] as const
  ).map(
    ([name, value]): Case => ({
      title: `a network name ${name} is refused, code 7`,
      source: "SPEC 1.1.0, Network configuration: name",
      run: (lab) => lab.refuse(bridgeConfig(lab, { name: value }), /name/, { code: code.invalidConfig }),
    }),
  ),
  {
    title: "a network name that is no text is refused",
    source: "SPEC 1.1.0, Error: codes 6 and 7",
    run: (lab) =>
      lab.refuse(bridgeConfig(lab, { name: 7 }), [], { code: [code.decodingFailure, code.invalidConfig] }),
  },
  {
    title: "the network name is checked on DEL and CHECK too",
    source: "cni skel, validateConfig",
    async run(lab) {
      for (const verb of ["DEL", "CHECK"]) {
        const reply = await lab.call(verb, bridgeConfig(lab, { name: "" }), {
          container: await lab.container(),
        });
        reply.expectError({ code: code.invalidConfig });
      }
    },
  },
  ...wrongTypes.map(
    ([field, value]): Case => ({
      title: `a field of the wrong type is refused: ${field} ${JSON.stringify(value)}`,
      source: "SPEC 1.1.0, Error: code 7",
      executables: ["bridge", "host-local"],
      run: (lab) => lab.refuse(bridgeConfig(lab, { [field]: value }), []),
    }),
  ),
  {
    title: "fields of the wrong type are refused with code 6 or 7",
    source: "SPEC 1.1.0, Error: codes 6 and 7",
    executables: ["bridge"],
    reference: "code 999 for nearly all faults",
    async run(lab) {
      for (const [field, value] of wrongTypes) {
        await lab.refuse(bridgeConfig(lab, { [field]: value }), [], {
          code: [code.decodingFailure, code.invalidConfig],
        });
      }
    },
  },
  {
    title: "keys are matched in any case, as Go's decoder does",
    source: "encoding/json, Unmarshal; CRI sends Go field names",
    async run(lab) {
      const container = await lab.container();
      const { ipam: _ipam, ...rest } = bridgeConfig(lab);
      const upper = Object.fromEntries(
        Object.entries(rest).map(([key, value]) => [key.toUpperCase(), value]),
      );
      const config = {
        ...upper,
        ISGATEWAY: true,
        Mtu: 1400,
        IPAM: { Type: "host-local", DATADIR: lab.dataDir, Subnet: "10.77.0.0/24" },
      };
      const reply = await lab.call("ADD", config, { plugin: "bridge", container });
      expectEqual(reply.expectJson()["cniVersion"], "1.0.0", "cniVersion of the result");
      expectEqual((await readLink(container.namespace, "eth0"))?.mtu, 1400, "MTU of eth0");
      expectEqual(
        (await readAddresses(lab.host, "br0")).map((address) => address.cidr),
        ["10.77.0.1/24"],
        "addresses of br0",
      );
      (await lab.call("DEL", config, { plugin: "bridge", container })).expectSilence();
    },
  },
  {
    title: "runtimeConfig is found in any case",
    source: "encoding/json, Unmarshal",
    async run(lab) {
      const container = await lab.container();
      await lab.attach(
        bridgeConfig(lab, {
          ipam: undefined,
          capabilities: { mac: true },
          RuntimeConfig: { Mac: "02:11:22:33:44:55" },
        }),
        container,
      );
      expectEqual((await readLink(container.namespace, "eth0"))?.mac, "02:11:22:33:44:55", "MAC of eth0");
    },
  },
  {
    title: "a field that is null counts as absent",
    source: "encoding/json, Unmarshal",
    async run(lab) {
      await lab.attach(
        bridgeConfig(lab, {
          mtu: null,
          isGateway: null,
          ipMasq: null,
          vlan: null,
          vlanTrunk: null,
          dns: null,
          args: null,
          runtimeConfig: null,
          capabilities: null,
          prevResult: null,
          ipam: hostLocal(lab, { routes: null, rangeStart: null, gateway: null, resolvConf: null }),
        }),
        await lab.container(),
      );
    },
  },
  {
    title: "unknown keys are ignored, and so are those that runtimes add",
    source: "CONVENTIONS; libcni injects keys",
    async run(lab) {
      await lab.attach(
        bridgeConfig(lab, {
          "cni.dev/valid-attachments": [{ containerID: "a", ifname: "b" }],
          "cni.dev/attachments": [],
          capabilities: { portMappings: true, mac: false },
          args: { cni: { labels: [{ key: "a", value: "b" }] }, other: { deep: [1, { x: null }] } },
          runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 2, protocol: "tcp" }], novel: true },
          "com.example/novel": { deep: [[[]]] },
          ipam: hostLocal(lab, { "com.example/novel": 1 }),
        }),
        await lab.container(),
      );
    },
  },
  {
    title: "a request of a megabyte is read to its end",
    source: "SPEC 1.1.0, Execution Protocol: configuration on stdin",
    async run(lab) {
      await lab.attach(bridgeConfig(lab, { "com.example/long": "x".repeat(1 << 20) }), await lab.container());
    },
  },
  {
    title: "a request nested a hundred thousand deep does not crash a plugin",
    source: "SPEC 1.1.0, Error: one JSON object",
    async run(lab) {
      const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
      const stdin = `{"cniVersion":"1.0.0","name":"net-a","type":"bridge","bridge":"br0","x":${deep}}`;
      const container = await lab.container();
      const reply = await lab.call("ADD", stdin, { plugin: "bridge", container });
      if (!reply.succeeded) reply.expectError();
      await lab.call("DEL", stdin, { plugin: "bridge", container });
      (await lab.call("DEL", bridgeConfig(lab, { ipam: undefined }), { container })).expectSilence();
    },
  },
  {
    title: "text in other scripts passes through stdin unharmed",
    source: "RFC 8259, section 8.1",
    executables: ["loopback"],
    async run(lab) {
      const container = await lab.container();
      const search = "пример.испытание";
      const prevResult = { cniVersion: "1.0.0", interfaces: [], ips: [], dns: { search: [search] } };
      const attachment = await lab.attach(plainConfig("loopback", { prevResult }), container, {
        ifName: "lo",
      });
      expectEqual(attachment.result.dns["search"], [search], "dns.search of the result");
    },
  },
  {
    title: "prevResult that is no object is refused",
    source: "SPEC 1.1.0, Error: codes 6 and 7",
    executables: ["loopback"],
    async run(lab) {
      for (const prevResult of ["x", 7, [1]]) {
        const reply = await lab.call("ADD", plainConfig("loopback", { prevResult }), {
          container: await lab.container(),
          ifName: "lo",
        });
        reply.expectError();
      }
    },
  },
  {
    title: "CHECK without prevResult is refused and says so",
    source: "SPEC 1.1.0, CHECK: prevResult",
    reference: "loopback does not ask for it",
    executables: ["bridge", "loopback"],
    async run(lab) {
      const container = await lab.container();
      for (const type of ["bridge", "loopback"]) {
        const attachment = await lab.attach(
          type === "bridge" ? bridgeConfig(lab) : plainConfig(type),
          container,
          {
            ifName: type === "bridge" ? "eth0" : "lo",
          },
        );
        const reply = await attachment.call("CHECK", attachment.config);
        reply.expectError({ names: /prevResult/ });
      }
    },
  },
  {
    title: "stderr may say anything, stdout of a success holds the result alone",
    source: "SPEC 1.1.0, Execution Protocol",
    async run(lab) {
      const container = await lab.container();
      const reply = await lab.call("ADD", bridgeConfig(lab), { container });
      const json = reply.expectJson();
      expect(json["code"] === undefined, "the result has a field code, as an error has");
      (await lab.call("DEL", bridgeConfig(lab), { container })).expectSilence();
    },
  },
];
