import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Container, Lab } from "#conformance/lab.ts";

const readme = "dns README";
const guide = "docs/names.md";

interface Named {
  readonly container: Container;
  readonly bridge: Attachment;
  readonly dns: Attachment;
  readonly ip4: string;
  readonly ip6: string;
}

interface Options {
  readonly aliases?: readonly string[];
  readonly network?: string;
  readonly dns?: JsonObject;
  readonly args?: string;
}

/** A container behind bridge and dns. */
async function named(lab: Lab, { aliases = [], network = "net-a", dns = {}, args }: Options): Promise<Named> {
  const container = await lab.container();
  const words = args === undefined ? {} : { args };
  const settings = { name: network, bridge: network === "net-a" ? "br0" : "br1", ipam: dualStack(lab) };
  const bridge = await lab.attach(bridgeConfig(lab, settings), container);
  const config = plainConfig("dns", {
    name: network,
    prevResult: bridge.result.json,
    runtimeConfig: { aliases: { [network]: aliases } },
    ...dns,
  });
  const attached = await lab.attach(config, container, words);
  const [ip4 = "", ip6 = ""] = bridge.result.ips.map(({ ip }) => ip);
  return { container, bridge, dns: attached, ip4, ip6 };
}

/** What dig prints in short, sorted. */
async function dig({ container }: Pick<Named, "container">, words: string): Promise<readonly string[]> {
  const text = await container.namespace.shell(`dig +short +tries=1 +time=7 @127.0.0.11 ${words} || true`);
  return text
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}

const statusOf = async ({ container }: Pick<Named, "container">, words: string): Promise<string> => {
  const text = await container.namespace.shell(`dig +tries=1 +time=7 @127.0.0.11 ${words} || true`);
  const [, status = "silence"] = /status: (\w+)/.exec(text) ?? [];
  const [, answers = ""] = /ANSWER: (\d+)/.exec(text) ?? [];
  return `${status} ${answers}`.trim();
};

export const nameCases: readonly Case[] = [
  {
    title: "the result names 127.0.0.11, which finds the other containers of the network",
    source: `${readme}; ${guide}, What is answered`,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"] });
      const b = await named(lab, { aliases: ["db", "Primary"] });
      const { dns } = a.dns.result.json as { dns?: { nameservers?: unknown } };
      expectEqual(dns?.nameservers, ["127.0.0.11"], "dns.nameservers");
      for (const name of ["db", "DB", "primary", "db.net-a", "db.net-a."]) {
        expectEqual(await dig(a, name), [b.ip4], name);
        expectEqual(await dig(a, `+tcp ${name}`), [b.ip4], `${name} over TCP`);
        expectEqual(await dig(a, `${name} AAAA`), [b.ip6], `${name} AAAA`);
      }
      expectEqual(await dig(b, "web"), [a.ip4], "web");
    },
  },
  {
    title: "an address leads to a name, in both families",
    source: `${guide}, PTR`,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"] });
      expectEqual(await dig(a, `-x ${a.ip4}`), ["web.net-a."], a.ip4);
      expectEqual(await dig(a, `-x ${a.ip6}`), ["web.net-a."], a.ip6);
      expectEqual(await statusOf(a, "-x 10.77.0.200"), "NXDOMAIN 0", "an address that nobody has");
    },
  },
  {
    title: "names come from CNI_ARGS, labels and the container's id",
    source: `${readme}, Names`,
    async run(lab) {
      const labels = [
        { key: "io.netctl.name", value: "labelled" },
        { key: "com.docker.compose.service", value: "service" },
      ];
      const a = await named(lab, {
        args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=space;K8S_POD_NAME=pod",
        dns: { args: { cni: { labels } } },
      });
      const short = a.container.id.slice(0, 12);
      for (const name of ["labelled", "service", "pod", "pod.space", short]) {
        expectEqual(await dig(a, name), [a.ip4], name);
      }
    },
  },
  {
    title: "a name that several have leads to all of them",
    source: `${guide}, What is answered`,
    async run(lab) {
      const a = await named(lab, { aliases: ["api"] });
      const b = await named(lab, { aliases: ["api"] });
      expectEqual(await dig(a, "api"), [a.ip4, b.ip4].sort(), "api");
    },
  },
  {
    title: "other types of a name are no data, and a port is found by SRV",
    source: `${guide}, What is answered`,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"] });
      for (const type of ["MX", "TXT", "HTTPS", "CAA"]) {
        expectEqual(await statusOf(a, `web ${type}`), "NOERROR 0", type);
      }
      expectEqual(await dig(a, "_8080._tcp.web SRV"), ["0 0 8080 web."], "SRV");
    },
  },
  {
    title: "a name of another network does not exist",
    source: `${guide}, What is answered`,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"], dns: { internal: true } });
      const far = await named(lab, { aliases: ["far"], network: "net-b", dns: { internal: true } });
      for (const name of ["web", "web.net-a"]) expectEqual(await statusOf(far, name), "NXDOMAIN 0", name);
      expectEqual(await dig(far, "far"), [far.ip4], "far");
      expectEqual(await dig(a, "web"), [a.ip4], "web");
    },
  },
  {
    title: "a container in internal networks learns nothing from outside, at once",
    source: `${guide}, Internal networks`,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"], dns: { internal: true } });
      for (const name of ["example.com", "single", "-x 192.0.2.1"]) {
        expectEqual(await statusOf(a, name), "NXDOMAIN 0", name);
      }
    },
  },
  {
    title: "names are gone when DEL returns, and nothing is left in the container",
    source: readme,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"], dns: { internal: true } });
      const b = await named(lab, { aliases: ["db"], dns: { internal: true } });
      expectEqual(await dig(a, "db"), [b.ip4], "db");
      (await b.dns.del()).expectSilence();
      expectEqual(await statusOf(a, "db"), "NXDOMAIN 0", "db after DEL");
      expectEqual(await b.container.namespace.shell("nft list tables; ss -Hlun"), "", "rules and sockets");
    },
  },
  {
    title: "the container can have port 53 for itself",
    source: `${guide}, In the container`,
    async run(lab) {
      const a = await named(lab, { aliases: ["web"] });
      for (const address of ["0.0.0.0", "127.0.0.1"]) {
        const script = `
        const { createSocket } = require("node:dgram");
        const { createServer } = require("node:net");
        createSocket("udp4").bind(53, "${address}", () => createServer().listen(53, "${address}", () => {
          const found = require("node:child_process").execFileSync("dig", ["+short", "@127.0.0.11", "web"]);
          console.log(String(found).trim());
          process.exit();
        }));`;
        const found = await a.container.namespace.shell(`${process.execPath} -e '${script}'`);
        expectEqual(found.trim(), a.ip4, `web, with port 53 of ${address}`);
      }
    },
  },
  {
    title: "what is no name is refused with code 7",
    source: `${readme}, Names`,
    async run(lab) {
      const container = await lab.container();
      const bridge = await lab.attach(bridgeConfig(lab), container);
      const config = (extra: JsonObject) => plainConfig("dns", { prevResult: bridge.result.json, ...extra });
      const bad: readonly (readonly [JsonObject, RegExp])[] = [
        [{ runtimeConfig: { aliases: { "net-a": ["a b"] } } }, /aliases.*a b/],
        [{ runtimeConfig: { dns: { servers: ["nowhere"] } } }, /servers.*nowhere/s],
        [{ domainName: "-" }, /domainName/],
        [{ internal: "yes" }, /internal/],
      ];
      for (const [extra, names] of bad) await lab.refuse(config(extra), names, { container, code: 7 });
      await lab.refuse(plainConfig("dns"), /chained/, { container, code: 7 });
      expect(true, "");
    },
  },
];
