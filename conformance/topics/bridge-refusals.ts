import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal } from "#conformance/configs.ts";
import { expect } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { code } from "#conformance/reply.ts";

interface Refusal {
  readonly title: string;
  readonly source: string;
  readonly fields: (lab: Lab) => JsonObject;
  readonly args?: string;
  readonly names: readonly RegExp[];
  readonly reference?: string;
}

const older = "v1.1.1 is older than the field";

/** Configurations that contradict themselves or ask for what there is not. */
const refusals: readonly Refusal[] = [
  {
    title: "hairpinMode together with promiscMode",
    source: "bridge plugin: cannot set hairpin mode and promiscuous mode at the same time",
    fields: () => ({ hairpinMode: true, promiscMode: true }),
    names: [/hairpin/i, /promisc/i],
  },
  {
    title: "a vlan below 0",
    source: "bridge plugin: invalid VLAN ID (must be between 0 and 4094)",
    fields: () => ({ vlan: -1 }),
    names: [/-1/, /vlan/i],
  },
  {
    title: "a vlan above 4094",
    source: "bridge plugin: invalid VLAN ID (must be between 0 and 4094)",
    fields: () => ({ vlan: 4095 }),
    names: [/4095/, /vlan/i],
  },
  {
    title: "a vlanTrunk id of 0",
    source: "bridge plugin: incorrect trunk id parameter",
    fields: () => ({ vlanTrunk: [{ id: 0 }] }),
    names: [/trunk/i, /id/i],
    reference: older,
  },
  {
    title: "a vlanTrunk id above 4094",
    source: "bridge plugin: incorrect trunk id parameter",
    fields: () => ({ vlanTrunk: [{ id: 4096 }] }),
    names: [/trunk/i, /id/i],
    reference: older,
  },
  {
    title: "a vlanTrunk with minID above maxID",
    source: "bridge plugin: minID is greater than maxID in trunk parameter",
    fields: () => ({ vlanTrunk: [{ minID: 20, maxID: 10 }] }),
    names: [/minID/, /maxID/],
    reference: older,
  },
  {
    title: "a vlanTrunk with minID alone",
    source: "bridge plugin: minID and maxID should be configured simultaneously",
    fields: () => ({ vlanTrunk: [{ minID: 20 }] }),
    names: [/maxID/],
    reference: older,
  },
  {
    title: "a vlanTrunk with maxID alone",
    source: "bridge plugin: minID and maxID should be configured simultaneously",
    fields: () => ({ vlanTrunk: [{ maxID: 20 }] }),
    names: [/minID/],
    reference: older,
  },
  {
    title: "a vlanTrunk with a minID out of range",
    source: "bridge plugin: incorrect trunk minID parameter",
    fields: () => ({ vlanTrunk: [{ minID: -2, maxID: 20 }] }),
    names: [/minID/],
    reference: older,
  },
  {
    title: "a vlanTrunk with a maxID out of range",
    source: "bridge plugin: incorrect trunk maxID parameter",
    fields: () => ({ vlanTrunk: [{ minID: 20, maxID: 9999 }] }),
    names: [/maxID/],
    reference: older,
  },
  {
    title: "ipam together with disableContainerInterface",
    source: "bridge plugin: cannot use IPAM when DisableContainerInterface flag is set",
    fields: () => ({ disableContainerInterface: true }),
    names: [/ipam/i, /disableContainerInterface/i],
    reference: older,
  },
  {
    title: "an ipMasqBackend that there is not",
    source: "bridge plugin: unknown ipmasq backend",
    fields: () => ({ isGateway: true, ipMasq: true, ipMasqBackend: "ipfw" }),
    names: [/ipfw/],
    reference: older,
  },
  {
    title: "a runtimeConfig.mac that is none",
    source: "CONVENTIONS, mac",
    fields: () => ({ capabilities: { mac: true }, runtimeConfig: { mac: "02:00:00" } }),
    names: [/02:00:00/],
    reference: "the bridge is made before the MAC is read",
  },
  {
    title: "an args.cni.mac that is none",
    source: "bridge README, args.cni.mac",
    fields: () => ({ args: { cni: { mac: "not-a-mac" } } }),
    names: [/not-a-mac/],
    reference: "the bridge is made before the MAC is read",
  },
  {
    title: "a MAC in CNI_ARGS that is none",
    source: "bridge README, CNI_ARGS MAC",
    fields: () => ({}),
    args: "IgnoreUnknown=1;MAC=02:zz:00:00:00:01",
    names: [/02:zz/],
    reference: "the bridge is made before the MAC is read",
  },
  {
    title: "a multicast MAC",
    source: "IEEE 802, group bit; kernel: not a valid Ethernet address",
    fields: () => ({ runtimeConfig: { mac: "01:00:5e:00:00:01" } }),
    names: [/01:00:5e|address|mac/i],
    reference: "the veth pair stays after a failed ADD",
  },
  {
    title: "a bridge name longer than the kernel takes",
    source: "linux/if.h, IFNAMSIZ",
    fields: () => ({ bridge: "bridge-0123456789" }),
    names: [/bridge-0123456789|numerical|name/],
  },
  {
    title: "a bridge name with a slash",
    source: "kernel: dev_valid_name()",
    fields: () => ({ bridge: "br/0" }),
    names: [/br\/0|name|invalid/],
  },
  {
    title: "a negative mtu",
    source: "linux/if_link.h, IFLA_MTU",
    fields: () => ({ mtu: -5 }),
    names: [/mtu|-5|invalid|range/i],
    reference: "takes it for no mtu",
  },
  {
    title: "an mtu larger than the kernel takes",
    source: "kernel: mtu greater than device maximum",
    fields: () => ({ mtu: 70_000 }),
    names: [/mtu|70000|invalid/i],
  },
  {
    title: "a subnet with host bits",
    source: "host-local plugin: Network has host bits set",
    fields: (lab) => ({ ipam: hostLocal(lab, { subnet: "10.77.0.5/24" }) }),
    names: [/10\.77\.0\.[05]/],
    reference: "the veth pair stays after a failed ADD",
  },
];

export const refusalCases: readonly Case[] = [
  ...refusals.map(
    (refusal): Case => ({
      title: `${refusal.title} is refused by name, and the host stays as it was`,
      source: refusal.source,
      ...(refusal.reference === undefined ? {} : { reference: refusal.reference }),
      run: (lab) =>
        lab.refuse(
          bridgeConfig(lab, refusal.fields(lab)),
          refusal.names,
          refusal.args === undefined ? {} : { args: refusal.args },
        ),
    }),
  ),
  {
    title: "refused configurations carry code 7",
    source: "SPEC 1.1.0, Error: code 7",
    reference: "code 999 for nearly all faults",
    async run(lab) {
      const others: string[] = [];
      for (const refusal of refusals) {
        const options = refusal.args === undefined ? {} : { args: refusal.args };
        const container = await lab.container();
        const config = bridgeConfig(lab, refusal.fields(lab));
        const reply = await lab.call("ADD", config, { container, ...options });
        const error = reply.succeeded ? undefined : reply.expectError();
        const wanted: readonly number[] =
          refusal.args === undefined ? [code.invalidConfig] : [code.invalidConfig, code.invalidEnvironment];
        if (error === undefined || !wanted.includes(error.code))
          others.push(`${refusal.title}: ${error === undefined ? "no error" : `code ${error.code}`}`);
        if (error === undefined) (await lab.call("DEL", config, { container })).expectSilence();
      }
      expect(
        others.length === 0,
        `${others.length} of ${refusals.length} have another code: ${others.join("; ")}`,
      );
    },
  },
];
