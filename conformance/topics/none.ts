import type { Case } from "#conformance/case.ts";
import { plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { code } from "#conformance/reply.ts";
import { ping } from "#conformance/traffic.ts";
import { readLinks, readRoutes } from "#conformance/witness.ts";

const design = "netctl, driver none";

export const noneCases: readonly Case[] = [
  {
    title: "ADD gives the container lo and nothing else",
    source: design,
    async run(lab) {
      const container = await lab.container();
      await lab.unchanged(async () => {
        await lab.attach(plainConfig("none"), container);
      });
      expectEqual(
        (await readLinks(container.namespace)).map((link) => link.name),
        ["lo"],
        "links of the container",
      );
      expect(await ping(container.namespace, "127.0.0.1"), "no answer from 127.0.0.1");
      expectEqual((await readRoutes(container.namespace)).length, 0, "number of routes");
    },
  },
  {
    title: "the result names lo in the container",
    source: design,
    async run(lab) {
      const { result, container } = await lab.attach(plainConfig("none"), await lab.container());
      expectEqual(
        result.interfaces.map(({ name, sandbox }) => [name, sandbox]),
        [["lo", container.namespace.path]],
        "interfaces",
      );
    },
  },
  {
    title: "CHECK is silent, and fails once lo is down",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const attachment = await lab.attach(plainConfig("none"), await lab.container());
      (await attachment.check()).expectSilence();
      await attachment.container.namespace.ip("link set lo down");
      (await attachment.check()).expectError({ names: /lo/ });
    },
  },
  {
    title: "DEL succeeds any number of times, with and without netns",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const attachment = await lab.attach(plainConfig("none"), await lab.container());
      (await attachment.delWithResult()).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del()).expectSilence();
    },
  },
  {
    title: "the host's own namespace is refused, code 8",
    source: "cni skel, ErrInvalidNetNS",
    run: (lab) => lab.refuse(plainConfig("none"), [], { netns: lab.host.path, code: code.invalidNamespace }),
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    async run(lab) {
      const config = plainConfig("none", { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] });
      (await lab.call("GC", config)).expectSilence();
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
