import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { fields, plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { expectLossSeen } from "#conformance/loss.ts";
import { askServer, isUnanswered } from "#conformance/traffic.ts";
import { bridged, servedPort } from "./portmap-network.ts";

const readme = "firewall README";
const nobody = /^nobody: /;
const noRecord = "knows its rules by the previous result alone";

function firewallConfig(previous: Attachment, extra: JsonObject = {}): JsonObject {
  return plainConfig("firewall", {
    ...fields({ name: previous.config["name"], prevResult: previous.result.json }),
    ...extra,
  });
}

/** A container behind bridge and firewall, with a server. */
async function walled(
  lab: Lab,
  extra: JsonObject = {},
  network: "net-a" | "net-b" = "net-a",
): Promise<Attachment> {
  const previous = await bridged(lab, network);
  await lab.serve(previous.container.namespace, servedPort);
  return lab.attach(firewallConfig(previous, extra), previous.container);
}

async function reaches(from: Attachment, to: Attachment, protocol: "tcp" | "udp" = "tcp"): Promise<boolean> {
  return !nobody.test(await askServer(from.container.namespace, protocol, to.ip(), servedPort));
}

const sameBridge = { ingressPolicy: "same-bridge" };

export const firewallCases: readonly Case[] = [
  {
    title: "ADD hands on the result of the plugin before it",
    source: "SPEC 1.1.0, ADD: prevResult",
    async run(lab) {
      const previous = await bridged(lab);
      const attachment = await lab.attach(firewallConfig(previous), previous.container);
      expectEqual(attachment.result.ips.length, previous.result.ips.length, "addresses");
      expectEqual(attachment.inside().name, previous.inside().name, "interface");
    },
  },
  {
    title: "ADD without a previous result is refused",
    source: readme,
    async run(lab) {
      const container = await lab.container();
      await lab.refuse(plainConfig("firewall"), /prevResult/, { container });
    },
  },
  {
    title: "same-bridge keeps containers of two bridges apart, and those of one bridge together",
    source: `${readme}, ingressPolicy`,
    async run(lab) {
      const one = await walled(lab, sameBridge);
      const two = await walled(lab, sameBridge);
      const other = await walled(lab, sameBridge, "net-b");
      expect(await reaches(one, two), "a container of the same bridge is not reached");
      for (const protocol of ["tcp", "udp"] as const)
        expect(
          !(await reaches(one, other, protocol)),
          `a container of another bridge is reached by ${protocol}`,
        );
      expect(!(await reaches(other, one)), "a container of another bridge reaches this one");
    },
  },
  {
    title: "open lets containers of two bridges reach each other",
    source: `${readme}, ingressPolicy`,
    async run(lab) {
      const one = await walled(lab);
      const other = await walled(lab, {}, "net-b");
      expect(await reaches(one, other), "a container of another bridge is not reached");
    },
  },
  {
    title: "isolated keeps containers of one bridge apart, and not from the host",
    source: `${readme}, ingressPolicy`,
    reference: "only where bridges hand frames to the firewall",
    async run(lab) {
      const one = await walled(lab, { ingressPolicy: "isolated" });
      const two = await walled(lab, { ingressPolicy: "isolated" });
      expect(!(await reaches(one, two)), "a container of the same bridge is reached");
      expect(
        !nobody.test(await askServer(lab.host, "tcp", two.ip(), servedPort)),
        "the host does not reach it",
      );
    },
  },
  {
    title: "an unknown ingressPolicy is refused",
    source: readme,
    async run(lab) {
      const previous = await bridged(lab);
      await lab.refuse(firewallConfig(previous, { ingressPolicy: "closed" }), /closed/, {
        container: previous.container,
      });
    },
  },
  {
    title: "DEL takes every trace of the container away, and may be repeated",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const attachment = await walled(lab);
      for (let times = 0; times < 3; times += 1) (await attachment.delWithResult()).expectSilence();
    },
  },
  {
    title: "DEL with neither netns nor prevResult removes everything",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible",
    reference: noRecord,
    async run(lab) {
      const attachment = await walled(lab);
      const { prevResult: _, ...config } = attachment.config;
      (await attachment.del({ netns: "", config })).expectSilence();
    },
  },
  {
    title: "a late DEL leaves the rules of the container that has the address now",
    source: "SPEC 1.1.0: an attachment is container, network and interface",
    reference: "its rules have no owner",
    async run(lab) {
      const old = await walled(lab);
      const heir = lab.sibling(old.container);
      (await old.delWithResult()).expectSilence();
      const attachment = await lab.attach(old.config, heir);
      (await old.delWithResult({ netns: "" })).expectSilence();
      (await attachment.check()).expectSilence();
    },
  },
  {
    title: "after ADD, DEL and ADD there is no more than after the first ADD",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const previous = await bridged(lab);
      const cycle = async (): Promise<void> => {
        const attachment = await lab.attach(firewallConfig(previous, sameBridge), previous.container);
        (await attachment.delWithResult()).expectSilence();
      };
      await cycle();
      await lab.unchanged(cycle);
    },
  },
  {
    title: "CHECK succeeds after ADD, fails when the rules have been flushed, and makes nothing",
    source: "SPEC 1.1.0, CHECK",
    reference: "makes the chains that it misses",
    async run(lab) {
      const attachment = await walled(lab, sameBridge);
      const other = await walled(lab, sameBridge, "net-b");
      await expectLossSeen(attachment, () => lab.host.shell("nft flush ruleset"), {
        works: async () =>
          expect(
            await isUnanswered(other.container.namespace, attachment.ip(), servedPort),
            "a container of another bridge reaches this one",
          ),
      });
    },
  },
  {
    title: "GC removes the rules of attachments that are not valid, and no others",
    source: "SPEC 1.1.0, GC",
    reference: "has no GC",
    async run(lab) {
      const stale = await walled(lab);
      const valid = await walled(lab);
      const config = {
        cniVersion: "1.1.0",
        name: "net-a",
        type: "firewall",
        "cni.dev/valid-attachments": [{ containerID: valid.container.id, ifname: "eth0" }],
      };
      (await lab.call("GC", config)).expectSilence();
      (await valid.check()).expectSilence();
      (await stale.check()).expectError({});
      stale.forget();
    },
  },
  {
    title: "STATUS succeeds where rules can be made",
    source: "SPEC 1.1.0, STATUS",
    reference: "has no STATUS before 1.6.0",
    async run(lab) {
      (await lab.call("STATUS", { cniVersion: "1.1.0", name: "net-a", type: "firewall" })).expectSilence();
    },
  },
];
