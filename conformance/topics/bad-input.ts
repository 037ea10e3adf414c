import { mkdir } from "node:fs/promises";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal } from "#conformance/configs.ts";
import { expect } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { code } from "#conformance/reply.ts";
import { readLinks } from "#conformance/witness.ts";

const netnsFirst = "the namespace is opened after the bridge is made";

interface BadPlace {
  readonly title: string;
  /** Makes the directories unusable. */
  readonly spoil: (lab: Lab) => Promise<unknown>;
}

/** Every directory in which a plugin may keep state. */
function stateDirectories(lab: Lab): readonly string[] {
  return [lab.dataDir, lab.stateDir];
}

const badPlaces: readonly BadPlace[] = [
  {
    title: "a read-only state directory",
    async spoil(lab) {
      for (const directory of stateDirectories(lab)) await lab.mountTmpfs(directory, "ro,size=64k");
    },
  },
  {
    title: "a full state directory",
    async spoil(lab) {
      for (const directory of stateDirectories(lab)) {
        await lab.mountTmpfs(directory, "size=16k");
        await lab.host.shell(`cat /dev/zero > ${directory}/ballast 2>/dev/null || true`);
      }
    },
  },
  {
    title: "a state directory without a free inode",
    async spoil(lab) {
      for (const directory of stateDirectories(lab)) await lab.mountTmpfs(directory, "size=64k,nr_inodes=1");
    },
  },
];

/** ADD with spoilt directories: an error, and after the directories are well again nothing is left. */
async function addInBadPlace(lab: Lab, place: BadPlace, codes?: readonly number[]): Promise<void> {
  const config = bridgeConfig(lab, { isGateway: true, ipMasq: true });
  const container = await lab.container();
  await mkdir(lab.dataDir, { recursive: true });
  await place.spoil(lab);
  try {
    await lab.unchanged(async () => {
      const reply = await lab.call("ADD", config, { container });
      reply.expectError(codes === undefined ? {} : { code: codes });
    });
  } finally {
    for (const directory of stateDirectories(lab)) await lab.unmount(directory);
  }
  (await lab.call("DEL", config, { container })).expectSilence();
}

const badNamespaces: readonly (readonly [title: string, path: (lab: Lab) => Promise<string>])[] = [
  ["that is not there", async () => "/run/netns/never-was"],
  [
    "that is a plain file",
    async (lab) => lab.host.shell(`echo > ${lab.directory}/file`).then(() => `${lab.directory}/file`),
  ],
  ["that is a directory", async (lab) => lab.directory],
  ["that is another kind of namespace", async () => "/proc/self/ns/uts"],
  ["that is a process without namespace", async () => "/proc/4194304/ns/net"],
];

export const badInputCases: readonly Case[] = [
  ...badNamespaces.map(
    ([title, path]): Case => ({
      title: `ADD into a netns ${title} is refused, and the host stays as it was`,
      source: "SPEC 1.1.0, ADD: CNI_NETNS",
      reference: netnsFirst,
      async run(lab) {
        await lab.refuse(bridgeConfig(lab, { isGateway: true, ipMasq: true }), [], {
          netns: await path(lab),
        });
      },
    }),
  ),
  {
    title: "a netns that can't be used is refused with code 8 or 4, and its path",
    source: "cni skel, ErrInvalidNetNS; SPEC 1.1.0, Error: code 4",
    reference: "code 999 for nearly all faults",
    async run(lab) {
      for (const [, path] of badNamespaces) {
        const netns = await path(lab);
        const reply = await lab.call("ADD", bridgeConfig(lab), { container: await lab.container(), netns });
        reply.expectError({
          code: [code.invalidNamespace, code.invalidEnvironment],
          names: new RegExp(netns),
        });
      }
    },
  },
  ...badPlaces.map(
    (place): Case => ({
      title: `ADD with ${place.title} is refused, and the host stays as it was`,
      source: "SPEC 1.1.0, ADD; Error: code 5",
      needs: ["tmpfs"],
      reference: "the veth pair stays after a failed ADD",
      run: (lab) => addInBadPlace(lab, place),
    }),
  ),
  {
    title: "state directories that can't be written are an error of code 5",
    source: "SPEC 1.1.0, Error: code 5",
    needs: ["tmpfs"],
    reference: "code 999 for nearly all faults",
    async run(lab) {
      for (const place of badPlaces) await addInBadPlace(lab, place, [code.ioFailure]);
    },
  },
  {
    title: "a bridge name that is no bridge is refused, and the host stays as it was",
    source: "bridge plugin: already exists but is not a bridge",
    async run(lab) {
      await lab.host.ip("link add br0 type veth peer name br1");
      await lab.rebase();
      await lab.refuse(bridgeConfig(lab, { isGateway: true, ipMasq: true }), /br0/);
      await lab.refuse(bridgeConfig(lab, { bridge: "lo" }), /lo/);
    },
  },
  {
    title: "a dataDir that is a file is refused, and the host stays as it was",
    source: "SPEC 1.1.0, ADD; Error: code 5",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const dataDir = `${lab.directory}/file`;
      await lab.host.shell(`echo > ${dataDir}`);
      await lab.refuse(bridgeConfig(lab, { ipam: hostLocal(lab, { dataDir }) }), /file/);
    },
  },
  {
    title: "an empty CNI_PATH, or one of absent directories, is refused, and the host stays as it was",
    source: "SPEC 1.1.0, Delegated plugin execution: CNI_PATH",
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      for (const path of ["/nonexistent", ":", "/nonexistent:/absent"])
        await lab.refuse(bridgeConfig(lab, { ipam: { type: "scripted-ipam" } }), /scripted-ipam|CNI_PATH/, {
          environment: { CNI_PATH: path },
        });
    },
  },
  {
    title: "a network name of two hundred letters works or is refused, and leaves nothing",
    source: "SPEC 1.1.0, Network configuration: name",
    async run(lab) {
      const config = bridgeConfig(lab, { name: "n".repeat(200), isGateway: true, ipMasq: true });
      const container = await lab.container();
      const reply = await lab.call("ADD", config, { container });
      if (!reply.succeeded) reply.expectError();
      (await lab.call("DEL", config, { container })).expectSilence();
      const veths = (await readLinks(lab.host)).filter((link) => link.kind === "veth");
      expect(veths.length === 0, `${veths.map((link) => link.name).join(", ")} stays on the host`);
    },
  },
  {
    title: "a container id of two hundred letters works or is refused, and leaves nothing",
    source: "SPEC 1.1.0, Parameters: CNI_CONTAINERID",
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true, ipMasq: true, macspoofchk: true });
      const container = await lab.container("c".repeat(200));
      const reply = await lab.call("ADD", config, { container });
      if (!reply.succeeded) reply.expectError();
      (await lab.call("DEL", config, { container })).expectSilence();
    },
  },
];
