import { mkdir } from "node:fs/promises";
import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { show } from "#conformance/printed-result.ts";
import type { RecordedCall, RecordingIpam } from "#conformance/recording-ipam.ts";
import { list, object, readAddresses, readLink, readLinks, readRoutes, text } from "#conformance/witness.ts";

const type = "scripted-ipam";
const addressed = { cniVersion: "1.0.0", ips: [{ address: "10.77.0.42/24", gateway: "10.77.0.1" }], dns: {} };

/** A bridge network whose addresses come from the scripted IPAM. */
function delegatingConfig(
  lab: Lab,
  extra: Readonly<Record<string, JsonObject[keyof JsonObject] | undefined>> = {},
): JsonObject {
  return bridgeConfig(lab, {
    ipam: { type, "com.example/pool": ["blue", 7] },
    "com.example/other": { kept: null },
    ...extra,
  });
}

async function install(lab: Lab, result: JsonObject = addressed): Promise<RecordingIpam> {
  const ipam = await lab.ipam(type);
  await ipam.answer("ADD", result);
  for (const verb of ["DEL", "CHECK", "GC", "STATUS"]) await ipam.answer(verb, "");
  return ipam;
}

function only(calls: readonly RecordedCall[], verb: string): RecordedCall {
  const [first] = calls;
  expect(first !== undefined, `the IPAM was never asked to ${verb}`);
  expect(calls.length === 1, `the IPAM was asked to ${verb} ${calls.length} times, expected once`);
  return first;
}

async function expectNoContainerLink(lab: Lab, links: string): Promise<void> {
  const found = (await readLinks(lab.host)).filter((link) => link.kind === "veth").map((link) => link.name);
  expect(found.length === 0, `${links}: ${found.join(", ")} stays on the host`);
}

/** What an IPAM may answer to ADD instead of addresses. */
const badAnswers: readonly (readonly [name: string, output: JsonObject | string])[] = [
  ["nothing", ""],
  ["words", "10.77.0.42"],
  ["a result of an unknown version", { ...addressed, cniVersion: "7.0.0" }],
  ["an address without prefix", { cniVersion: "1.0.0", ips: [{ address: "10.77.0.42" }] }],
  ["an address that is none", { cniVersion: "1.0.0", ips: [{ address: "10.77.0.300/24" }] }],
];

export const delegationCases: readonly Case[] = [
  {
    title: "the IPAM gets the whole request on stdin, unknown keys included",
    source: "SPEC 1.1.0, Delegated plugin execution: complete stdin",
    async run(lab) {
      const ipam = await install(lab);
      const config = delegatingConfig(lab, {
        capabilities: { ips: true },
        runtimeConfig: { ips: ["10.77.0.42/24"] },
      });
      await lab.attach(config, await lab.container());
      expectEqual(only(await ipam.calls("ADD"), "ADD").config, config, "stdin of the IPAM");
    },
  },
  {
    title: "the IPAM gets the environment of the caller",
    source: "SPEC 1.1.0, Delegated plugin execution: environment",
    async run(lab) {
      const ipam = await install(lab);
      const container = await lab.container();
      await lab.attach(delegatingConfig(lab), container, {
        ifName: "net7",
        args: "IgnoreUnknown=1;K8S_POD_NAME=web-0",
        environment: { TRACEPARENT: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
      });
      const { environment } = only(await ipam.calls("ADD"), "ADD");
      expectEqual(environment["CNI_CONTAINERID"], container.id, "CNI_CONTAINERID");
      expectEqual(environment["CNI_NETNS"], container.namespace.path, "CNI_NETNS");
      expectEqual(environment["CNI_IFNAME"], "net7", "CNI_IFNAME");
      expectEqual(environment["CNI_ARGS"], "IgnoreUnknown=1;K8S_POD_NAME=web-0", "CNI_ARGS");
      expectEqual(environment["CNI_PATH"], `${lab.ownBin}:${lab.bench.bin}`, "CNI_PATH");
      expect(
        environment["TRACEPARENT"]?.startsWith("00-0af7") === true,
        "TRACEPARENT did not reach the IPAM",
      );
    },
  },
  {
    title: "the IPAM's addresses, routes and dns become the container's and the result's",
    source: "SPEC 1.1.0, Delegated Plugins (IPAM)",
    reference: "v1.1.1 drops the IPAM's dns",
    async run(lab) {
      await install(lab, {
        cniVersion: "1.0.0",
        ips: [
          { address: "10.77.0.42/24", gateway: "10.77.0.1" },
          { address: "fd00:77::42/64", gateway: "fd00:77::1" },
        ],
        routes: [
          { dst: "192.0.2.0/24", gw: "10.77.0.9" },
          { dst: "2001:db8:2::/64", gw: "fd00:77::9" },
        ],
        dns: { nameservers: ["192.0.2.53"], search: ["example.test"] },
      });
      const container = await lab.container();
      const attachment = await lab.attach(delegatingConfig(lab), container);
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).map((address) => address.cidr),
        ["10.77.0.42/24", "fd00:77::42/64"],
        "addresses of eth0",
      );
      expectEqual(
        attachment.result.ips.map((entry) => entry.interface),
        [2, 2],
        "interface indices of ips",
      );
      expectEqual(
        attachment.result.routes.map((route) => route.gw),
        ["10.77.0.9", "fd00:77::9"],
        "gateways of routes",
      );
      expectEqual(attachment.result.dns["nameservers"], ["192.0.2.53"], "dns.nameservers");
      const routes = [
        ...(await readRoutes(container.namespace)),
        ...(await readRoutes(container.namespace, 6)),
      ];
      for (const gateway of ["10.77.0.9", "fd00:77::9"])
        expect(
          routes.some((route) => route.gateway === gateway),
          `no route via ${gateway} in the container`,
        );
    },
  },
  {
    title: "several addresses of one family are all used",
    source: "SPEC 1.1.0, ADD: ips",
    async run(lab) {
      const cidrs = ["10.77.0.42/24", "10.77.0.43/24", "10.78.0.44/16"];
      await install(lab, { cniVersion: "1.0.0", ips: cidrs.map((address) => ({ address })) });
      const container = await lab.container();
      const attachment = await lab.attach(delegatingConfig(lab), container);
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).map((address) => address.cidr).sort(),
        cidrs.toSorted(),
        "addresses of eth0",
      );
      expectEqual(
        attachment.result.ips.map((entry) => entry.address),
        cidrs,
        "ips of the result",
      );
    },
  },
  {
    title: "an IPAM that answers in 0.2.0 to a request in 0.2.0 is understood",
    source: "SPEC 0.2.0, IP Allocation",
    async run(lab) {
      await install(lab, {
        cniVersion: "0.2.0",
        ip4: { ip: "10.77.0.42/24", gateway: "10.77.0.1", routes: [{ dst: "0.0.0.0/0" }] },
        ip6: { ip: "fd00:77::42/64" },
      });
      const container = await lab.container();
      const config = delegatingConfig(lab, { cniVersion: "0.2.0" });
      const json = (await lab.call("ADD", config, { container })).expectJson();
      expectEqual(object(json["ip4"])["ip"], "10.77.0.42/24", "ip4.ip");
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).map((address) => address.cidr),
        ["10.77.0.42/24", "fd00:77::42/64"],
        "addresses of eth0",
      );
      (await lab.call("DEL", config, { container })).expectSilence();
    },
  },
  {
    title: "an IPAM that answers in an older version than the request is understood",
    source: "SPEC 1.1.0, Version considerations",
    async run(lab) {
      await install(lab, {
        cniVersion: "0.3.1",
        ips: [{ version: "4", address: "10.77.0.42/24", gateway: "10.77.0.1" }],
      });
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      expectEqual(
        attachment.result.ips.map((entry) => entry.address),
        ["10.77.0.42/24"],
        "addresses of the result",
      );
    },
  },
  {
    title: "the first directory of CNI_PATH that has the IPAM counts",
    source: "SPEC 1.1.0, Delegated plugin execution: CNI_PATH",
    async run(lab) {
      const empty = `${lab.directory}/bin-empty`;
      const later = `${lab.directory}/bin-later`;
      await mkdir(empty, { recursive: true });
      const ipam = await install(lab);
      const other = await lab.ipam("second-ipam", later);
      await other.answer("ADD", addressed);
      const shadowed = await lab.ipam(type, later);
      await shadowed.answer("DEL", "");
      const environment = {
        CNI_PATH: `${empty}:${lab.directory}/absent:${lab.ownBin}:${later}:${lab.bench.bin}`,
      };
      const container = await lab.container();
      const config = delegatingConfig(lab);
      (await lab.call("ADD", config, { container, environment })).expectJson();
      (await lab.call("DEL", config, { container, environment })).expectSilence();
      expect((await ipam.calls("ADD")).length >= 1, "the IPAM was not found");
      const second = delegatingConfig(lab, { ipam: { type: "second-ipam" } });
      const another = await lab.container();
      (await lab.call("ADD", second, { container: another, environment })).expectJson();
      (await lab.call("DEL", second, { container: another, environment })).expectSilence();
      only(await other.calls("ADD"), "ADD");
    },
  },
  {
    title: "an IPAM type with a path separator is refused and nothing is executed",
    source: "SPEC 1.1.0, Network configuration: type must be a file name",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ipam = await install(lab);
      for (const name of [`../bin/${type}`, `${lab.ownBin}/${type}`, `./${type}`])
        await lab.refuse(delegatingConfig(lab, { ipam: { type: name } }), []);
      expectEqual((await ipam.calls()).length, 0, "number of calls of the IPAM");
    },
  },
  {
    title: "an IPAM that is not in CNI_PATH is named in the error, and nothing is left",
    source: "SPEC 1.1.0, Delegated plugin execution",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const container = await lab.container();
      const reply = await lab.call("ADD", delegatingConfig(lab, { ipam: { type: "no-such-ipam" } }), {
        container,
      });
      reply.expectError({ names: /no-such-ipam/ });
      await expectNoContainerLink(lab, "after the failed ADD");
    },
  },
  {
    title: "an error of the IPAM is passed on: code and message",
    source: "SPEC 1.1.0, Delegated plugin execution; Error",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ipam = await install(lab);
      await ipam.answer(
        "ADD",
        { cniVersion: "1.0.0", code: 123, msg: "the pool is on fire", details: "call 112" },
        1,
      );
      const reply = await lab.call("ADD", delegatingConfig(lab), { container: await lab.container() });
      reply.expectError({ code: 123, names: /the pool is on fire/ });
    },
  },
  {
    title: "after a failed ADD of the IPAM it is called again with DEL",
    source: "SPEC 1.1.0, Delegated plugin execution: should execute again with DEL",
    reference: "returns the error at once",
    async run(lab) {
      const ipam = await install(lab);
      await ipam.answer("ADD", { cniVersion: "1.0.0", code: 123, msg: "the pool is on fire" }, 1);
      const config = delegatingConfig(lab);
      const container = await lab.container();
      (await lab.call("ADD", config, { container })).expectError();
      const call = only(await ipam.calls("DEL"), "DEL");
      expectEqual(call.environment["CNI_CONTAINERID"], container.id, "CNI_CONTAINERID of the DEL");
      expectEqual(object(call.config["ipam"])["type"], type, "ipam.type of the DEL's stdin");
    },
  },
  {
    title: "an IPAM that fails leaves no link on the host or in the container",
    source: "SPEC 1.1.0, ADD; cni#797",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ipam = await install(lab);
      await ipam.answer("ADD", { cniVersion: "1.0.0", code: 123, msg: "the pool is on fire" }, 1);
      const container = await lab.container();
      (await lab.call("ADD", delegatingConfig(lab), { container })).expectError();
      await expectNoContainerLink(lab, "after the failed ADD");
      expect((await readLink(container.namespace, "eth0")) === undefined, "eth0 stays in the container");
    },
  },
  {
    title: "an ADD that fails after the IPAM gives the address back by DEL",
    source: "SPEC 1.1.0, Delegated plugin execution",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ipam = await install(lab);
      await lab.host.ipBatch(["link add br0 type bridge", "address add 10.77.0.200/24 dev br0"]);
      const container = await lab.container();
      const config = delegatingConfig(lab, { isGateway: true });
      (await lab.call("ADD", config, { container })).expectError({ names: /br0/ });
      only(await ipam.calls("DEL"), "DEL");
    },
  },
  {
    title: "an ADD that fails after the IPAM leaves no link",
    source: "SPEC 1.1.0, ADD; cni#797",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      await install(lab);
      await lab.host.ipBatch(["link add br0 type bridge", "address add 10.77.0.200/24 dev br0"]);
      const container = await lab.container();
      (await lab.call("ADD", delegatingConfig(lab, { isGateway: true }), { container })).expectError();
      await expectNoContainerLink(lab, "after the failed ADD");
      expect((await readLink(container.namespace, "eth0")) === undefined, "eth0 stays in the container");
    },
  },
  {
    title: "an IPAM that hands out no address is an error, and is called again with DEL",
    source: "bridge plugin: IPAM plugin returned missing IP config",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ipam = await install(lab, { cniVersion: "1.0.0", ips: [] });
      const reply = await lab.call("ADD", delegatingConfig(lab), { container: await lab.container() });
      reply.expectError({ names: /IP|address/ });
      only(await ipam.calls("DEL"), "DEL");
    },
  },
  ...badAnswers.map(
    ([name, output]): Case => ({
      title: `an IPAM that answers ${name} is an error, and no link is left`,
      source: "SPEC 1.1.0, Delegated Plugins (IPAM): result",
      reference: "the veth pair stays after a failed ADD",
      async run(lab) {
        const ipam = await install(lab);
        await ipam.answer("ADD", output);
        const container = await lab.container();
        (await lab.call("ADD", delegatingConfig(lab), { container })).expectError();
        await expectNoContainerLink(lab, "after the failed ADD");
        expect((await ipam.calls("ADD")).length === 1, "the IPAM was not asked once");
      },
    }),
  ),
  {
    title: "an IPAM that fails without a word is an error with a message all the same",
    source: "SPEC 1.1.0, Error",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const ipam = await install(lab);
      await ipam.answer("ADD", "", 1);
      const reply = await lab.call("ADD", delegatingConfig(lab, {}), { container: await lab.container() });
      reply.expectError();
    },
  },
  {
    title: "the IPAM's stderr comes through",
    source: "cni invoke, RawExec: stderr",
    async run(lab) {
      await install(lab);
      const container = await lab.container();
      const config = delegatingConfig(lab);
      const reply = await lab.call("ADD", config, { container });
      (await lab.call("DEL", config, { container })).expectSilence();
      expect(reply.stderr.includes(`stderr of ${type}`), `stderr is ${show(reply.stderr)}`);
    },
  },
  {
    title: "DEL is passed on to the IPAM with the whole request, prevResult included",
    source: "SPEC 1.1.0, DEL; Delegated plugin execution",
    async run(lab) {
      const ipam = await install(lab);
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      (await attachment.delWithResult()).expectSilence();
      const call = only(await ipam.calls("DEL"), "DEL");
      expectEqual(call.config["com.example/other"], { kept: null }, "a key of the runtime's in stdin");
      expectEqual(
        text(object(list(object(call.config["prevResult"])["ips"])[0])["address"]),
        "10.77.0.42/24",
        "prevResult in stdin",
      );
    },
  },
  {
    title: "DEL is passed on to the IPAM when CNI_NETNS is empty",
    source: "SPEC 1.1.0, DEL: CNI_NETNS optional; cni#1167",
    async run(lab) {
      const ipam = await install(lab);
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      await attachment.container.namespace.remove();
      (await attachment.delWithResult({ netns: "" })).expectSilence();
      only(await ipam.calls("DEL"), "DEL");
    },
  },
  {
    title: "DEL is passed on to the IPAM when the namespace has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const ipam = await install(lab);
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      await attachment.container.namespace.remove();
      (await attachment.delWithResult()).expectSilence();
      only(await ipam.calls("DEL"), "DEL");
    },
  },
  {
    title: "DEL is passed on to the IPAM when the interface has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const ipam = await install(lab);
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      await attachment.container.namespace.ip("link delete eth0");
      (await attachment.delWithResult()).expectSilence();
      expect((await ipam.calls("DEL")).length === 1, "the IPAM was not asked to DEL");
    },
  },
  {
    title: "an IPAM whose DEL fails is reported, and the link is removed all the same",
    source: "SPEC 1.1.0, DEL; Delegated plugin execution",
    async run(lab) {
      const ipam = await install(lab);
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      await ipam.answer("DEL", { cniVersion: "1.0.0", code: 124, msg: "cannot reach the pool" }, 1);
      (await attachment.delWithResult()).expectError({ names: /cannot reach the pool/ });
      expect(
        (await readLink(attachment.container.namespace, "eth0")) === undefined,
        "eth0 stays in the container",
      );
      await ipam.answer("DEL", "");
      (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "CHECK is passed on to the IPAM, and its error comes back",
    source: "SPEC 1.1.0, CHECK: must call CHECK on delegates",
    async run(lab) {
      const ipam = await install(lab);
      const attachment = await lab.attach(delegatingConfig(lab), await lab.container());
      (await attachment.check()).expectSilence();
      const call = only(await ipam.calls("CHECK"), "CHECK");
      expect(call.config["prevResult"] !== undefined, "the IPAM's CHECK came without prevResult");
      await ipam.answer("CHECK", { cniVersion: "1.0.0", code: 125, msg: "nobody knows this address" }, 1);
      (await attachment.check()).expectError({ names: /nobody knows this address/ });
    },
  },
  {
    title: "GC is passed on to the IPAM with the list",
    source: "SPEC 1.1.0, GC: must forward to delegates",
    reference: "GC does nothing; unknown to v1.1.1",
    async run(lab) {
      const ipam = await install(lab, { ...addressed, cniVersion: "1.1.0" });
      const valid = [{ containerID: "abc", ifname: "eth0" }];
      const config = delegatingConfig(lab, { cniVersion: "1.1.0", "cni.dev/valid-attachments": valid });
      (await lab.call("GC", config)).expectSilence();
      const call = only(await ipam.calls("GC"), "GC");
      expectEqual(call.config["cni.dev/valid-attachments"], valid, "cni.dev/valid-attachments in stdin");
    },
  },
  {
    title: "an error of the IPAM's GC comes back",
    source: "SPEC 1.1.0, GC: errors are reported at the end",
    reference: "GC does nothing; unknown to v1.1.1",
    async run(lab) {
      const ipam = await install(lab);
      await ipam.answer("GC", { cniVersion: "1.1.0", code: 126, msg: "the ledger is locked" }, 1);
      const config = delegatingConfig(lab, { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] });
      (await lab.call("GC", config)).expectError({ names: /the ledger is locked/ });
    },
  },
  {
    title: "STATUS is passed on to the IPAM, and its code comes back",
    source: "SPEC 1.1.0, STATUS: must call STATUS on delegates",
    reference: "STATUS is unknown to v1.1.1",
    async run(lab) {
      const ipam = await install(lab);
      const config = delegatingConfig(lab, { cniVersion: "1.1.0" });
      (await lab.call("STATUS", config)).expectSilence();
      only(await ipam.calls("STATUS"), "STATUS");
      for (const number of [50, 51]) {
        await ipam.answer("STATUS", { cniVersion: "1.1.0", code: number, msg: "the pool is empty" }, 1);
        (await lab.call("STATUS", config)).expectError({ code: number, names: /the pool is empty/ });
      }
    },
  },
  {
    title: "without ipam, or with an empty type, no IPAM is executed",
    source: "bridge README: ipam optional (L2)",
    async run(lab) {
      const ipam = await install(lab);
      for (const none of [undefined, {}, { type: "" }]) {
        const attachment = await lab.attach(delegatingConfig(lab, { ipam: none }), await lab.container());
        expectEqual(attachment.result.ips, [], "ips of the result");
        (await attachment.delWithResult()).expectSilence();
      }
      expectEqual((await ipam.calls()).length, 0, "number of calls of the IPAM");
    },
  },
  {
    title: "killed while the IPAM works, an ADD leaves nothing that its DEL does not remove",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible",
    async run(lab) {
      const ipam = await install(lab);
      await ipam.hang("ADD");
      const config = delegatingConfig(lab, { isGateway: true, ipMasq: true });
      const container = await lab.container();
      const reply = await lab.call("ADD", config, {
        container,
        onStart: (processId) => {
          const kill = async (): Promise<void> => {
            for (let waited = 0; waited < 100 && (await ipam.calls("ADD")).length === 0; waited += 1)
              await new Promise((resolve) => setTimeout(resolve, 50));
            process.kill(processId, "SIGKILL");
          };
          void kill();
        },
        timeoutMs: 8_000,
      });
      expect(!reply.succeeded, "the ADD was not killed");
      (await lab.call("DEL", config, { container })).expectSilence();
      expect((await ipam.calls("DEL")).length >= 1, "the IPAM was not asked to DEL");
      await expectNoContainerLink(lab, "after the DEL");
    },
  },
];
