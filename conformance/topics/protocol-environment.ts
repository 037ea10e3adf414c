import type { Case } from "#conformance/case.ts";
import { bridgeConfig, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { show } from "#conformance/printed-result.ts";
import { code } from "#conformance/reply.ts";
import { readLink } from "#conformance/witness.ts";

/** A variable that is missing or malformed: which call, and what the error must name. */
async function refuseEnvironment(
  lab: Lab,
  verb: string,
  environment: Readonly<Record<string, string | undefined>>,
  names: RegExp | readonly RegExp[] = [],
): Promise<void> {
  const container = await lab.container();
  await lab.unchanged(async () => {
    const reply = await lab.call(verb, bridgeConfig(lab), { container, environment });
    reply.expectError({ code: code.invalidEnvironment, names });
  });
}

/** Same-netns calls change `lo` of whatever they hit: the bridge plugin must say no before it acts. */
export const environmentCases: readonly Case[] = [
  {
    title: "without CNI_COMMAND every executable names itself on stderr and succeeds",
    source: "cni skel, PluginMain: about",
    async run(lab) {
      for (const plugin of lab.bench.executables) {
        const reply = await lab.call("", "", { plugin, environment: { CNI_COMMAND: undefined } });
        reply.expectSilence();
        expect(/0\.4\.0/.test(reply.stderr), `${plugin} says ${show(reply.stderr)}, without its versions`);
      }
    },
  },
  {
    title: "an unknown CNI_COMMAND is refused by every executable, code 4",
    source: "SPEC 1.1.0, Error: code 4",
    async run(lab) {
      for (const plugin of lab.bench.executables) {
        const reply = await lab.call("FETCH", plainConfig(plugin), { container: await lab.container() });
        reply.expectError({ code: code.invalidEnvironment, names: /FETCH/ });
      }
    },
  },
  {
    title: "CNI_COMMAND is case-sensitive",
    source: "SPEC 1.1.0, Parameters",
    run: (lab) => refuseEnvironment(lab, "add", {}, /add/),
  },
  ...["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].map(
    (variable): Case => ({
      title: `ADD without ${variable} is refused, code 4, and named`,
      source: "SPEC 1.1.0, ADD: required environment parameters",
      run: (lab) => refuseEnvironment(lab, "ADD", { [variable]: undefined }, new RegExp(variable)),
    }),
  ),
  {
    title: "ADD names all missing variables at once",
    source: "cni skel, getCmdArgsFromEnv",
    run: (lab) =>
      refuseEnvironment(
        lab,
        "ADD",
        { CNI_CONTAINERID: undefined, CNI_NETNS: undefined, CNI_IFNAME: undefined },
        [/CNI_CONTAINERID/, /CNI_NETNS/, /CNI_IFNAME/],
      ),
  },
  ...["CNI_CONTAINERID", "CNI_IFNAME"].map(
    (variable): Case => ({
      title: `DEL without ${variable} is refused, code 4, and named`,
      source: "SPEC 1.1.0, DEL: required environment parameters",
      run: (lab) => refuseEnvironment(lab, "DEL", { [variable]: undefined }, new RegExp(variable)),
    }),
  ),
  ...["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].map(
    (variable): Case => ({
      title: `CHECK without ${variable} is refused, code 4, and named`,
      source: "SPEC 1.1.0, CHECK: required environment parameters",
      run: (lab) => refuseEnvironment(lab, "CHECK", { [variable]: undefined }, new RegExp(variable)),
    }),
  ),
  {
    title: "an empty variable counts as missing",
    source: "cni skel, getCmdArgsFromEnv",
    run: (lab) =>
      refuseEnvironment(lab, "ADD", { CNI_CONTAINERID: "", CNI_IFNAME: "" }, [
        /CNI_CONTAINERID/,
        /CNI_IFNAME/,
      ]),
  },
  {
    title: "container ids that do not start with a letter or digit, or hold other characters, are refused",
    source: "SPEC 1.1.0, Parameters: CNI_CONTAINERID",
    async run(lab) {
      for (const id of ["-a", ".a", "_a", "a b", "a/b", "../a", "ä", "a\nb", "a;b", "a\tb", "a:b"])
        await refuseEnvironment(lab, "ADD", { CNI_CONTAINERID: id });
    },
  },
  {
    title: "container ids of letters, digits, _, . and - are taken",
    source: "SPEC 1.1.0, Parameters: CNI_CONTAINERID",
    executables: ["bridge", "host-local"],
    async run(lab) {
      for (const id of ["a", "7", "A.b_c-D", `x${"0".repeat(63)}`]) {
        const attachment = await lab.attach(bridgeConfig(lab), await lab.container(id));
        (await attachment.del()).expectSilence();
      }
    },
  },
  {
    title: "interface names that the kernel or the specification forbid are refused, code 4",
    source: "SPEC 1.1.0, Parameters: CNI_IFNAME",
    async run(lab) {
      for (const name of ["a".repeat(16), ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u00a0b", "é".repeat(8)])
        await refuseEnvironment(lab, "ADD", { CNI_IFNAME: name });
    },
  },
  {
    title: "an interface name of 15 bytes is taken",
    source: "SPEC 1.1.0, Parameters: CNI_IFNAME",
    executables: ["bridge", "host-local"],
    async run(lab) {
      const container = await lab.container();
      const ifName = "e-23456789.1234";
      await lab.attach(bridgeConfig(lab), container, { ifName });
      expect(
        (await readLink(container.namespace, ifName)) !== undefined,
        `no link ${ifName} in the container`,
      );
    },
  },
  {
    title: "the environment is checked before stdin",
    source: "cni skel, pluginMain",
    async run(lab) {
      const reply = await lab.call("ADD", "{", {
        plugin: "bridge",
        container: await lab.container(),
        environment: { CNI_IFNAME: undefined },
      });
      reply.expectError({ code: code.invalidEnvironment });
    },
  },
  {
    title: "ADD works with no environment but the CNI variables",
    source: "SPEC 1.1.0, Parameters",
    executables: ["loopback"],
    async run(lab) {
      const container = await lab.container();
      const environment = { PATH: undefined, HOME: undefined };
      await lab.attach(plainConfig("loopback"), container, { ifName: "lo", environment });
    },
  },
  {
    title: "CNI_ARGS as Kubernetes sends them are taken",
    source: "CONVENTIONS, CNI_ARGS; kubelet",
    executables: ["bridge", "host-local"],
    async run(lab) {
      const args =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c0;K8S_POD_UID=7";
      await lab.attach(bridgeConfig(lab), await lab.container(), { args });
    },
  },
  {
    title: "IgnoreUnknown=true does as IgnoreUnknown=1",
    source: "cni types.LoadArgs",
    executables: ["bridge", "host-local"],
    async run(lab) {
      await lab.attach(bridgeConfig(lab), await lab.container(), { args: "IgnoreUnknown=true;NOVEL=1" });
    },
  },
  {
    title: "an unknown key in CNI_ARGS is refused and named without IgnoreUnknown",
    source: "cni types.LoadArgs",
    executables: ["bridge", "host-local"],
    run: (lab) => lab.refuse(bridgeConfig(lab), /NOVEL/, { args: "NOVEL=1" }),
  },
  {
    title: "CNI_ARGS that are no pairs are refused",
    source: "SPEC 1.1.0, Parameters: CNI_ARGS; cni types.LoadArgs",
    executables: ["bridge", "host-local"],
    async run(lab) {
      for (const args of ["IgnoreUnknown=1;novel", "IgnoreUnknown=1;A=b=c", "IgnoreUnknown=1;"])
        await lab.refuse(bridgeConfig(lab), /ARGS|pair|args/, { args });
    },
  },
  {
    title: "of two pairs in CNI_ARGS with one key the last counts",
    source: "cni types.LoadArgs",
    executables: ["bridge"],
    async run(lab) {
      const args = "MAC=02:00:00:00:00:01;MAC=02:00:00:00:00:02";
      const container = await lab.container();
      await lab.attach(bridgeConfig(lab, { ipam: undefined }), container, { args });
      expectEqual((await readLink(container.namespace, "eth0"))?.mac, "02:00:00:00:00:02", "MAC of eth0");
    },
  },
  {
    title: "ADD into the host's own namespace is refused, code 8, before anything is touched",
    source: "cni skel, ErrInvalidNetNS; plugins must not reconfigure the host",
    executables: ["bridge", "host-local"],
    reference: "the namespaces are compared after the work is done, and not at all in v1.1.1",
    async run(lab) {
      await lab.refuse(bridgeConfig(lab), [], { netns: lab.host.path, code: code.invalidNamespace });
    },
  },
  {
    title: "DEL with the host's own namespace leaves the host's interface of that name alone",
    source: "cni skel, ErrInvalidNetNS; SPEC 1.1.0, DEL",
    executables: ["bridge", "host-local"],
    reference: "deletes the host's link",
    async run(lab) {
      await lab.host.ip("link add eth0 type veth peer name other0");
      const container = await lab.container();
      await lab.unchanged(async () => {
        await lab.call("DEL", bridgeConfig(lab), { container, netns: lab.host.path });
      });
    },
  },
  {
    title: "CNI_NETNS_OVERRIDE allows the host's own namespace",
    source: "cni skel, CNI_NETNS_OVERRIDE",
    executables: ["loopback"],
    async run(lab) {
      for (const value of ["TRUE", "true", "1"]) {
        const reply = await lab.call("ADD", plainConfig("loopback"), {
          container: await lab.container(),
          ifName: "lo",
          netns: lab.host.path,
          environment: { CNI_NETNS_OVERRIDE: value },
        });
        reply.expectSuccess();
      }
    },
  },
];
