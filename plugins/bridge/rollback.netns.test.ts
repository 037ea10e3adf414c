import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Call, Outcome } from "#cni/plugin.ts";
import { Journal } from "#journal/journal.ts";
import type { JournalRecord } from "#journal/record.ts";
import { decodeRecord } from "#journal/record-lines.ts";
import { Nftables } from "#nftables/nftables.ts";
import { hostVethName } from "#plugins/host-veth.ts";
import { BridgeRig } from "#testing/bridge-rig.ts";
import { testWith } from "#testing/requires.ts";
import { bridge } from "./main.ts";

let rig: BridgeRig;
let intercept: ((type: string, call: Call) => Outcome | undefined) | undefined;
let asked: string[] = [];

beforeEach(() => {
  intercept = undefined;
  asked = [];
  rig = new BridgeRig({
    intercept: (type, call) => {
      asked.push(`${type} ${call.environment["CNI_COMMAND"]}`);
      return intercept?.(type, call);
    },
  });
});
afterEach(async () => {
  await rig.close();
});

const everything = {
  isDefaultGateway: true,
  ipMasq: true,
  macspoofchk: true,
  hairpinMode: true,
  ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]] },
};

/** The kernel alone knows that: a gateway has to be nearer than the route through it (rtnetlink(7), rtm_scope). */
const impossibleRoute = { dst: "10.9.0.0/16", gw: "10.1.0.200", scope: 254 };

/** An ADD that has to fail and to leave host and container as they were. */
async function failingAdd(config: JsonObject = rig.config(everything)): Promise<JsonObject> {
  const container = rig.container();
  const before = rig.snapshot();
  const { exitCode, json } = await rig.add(config, { netns: container.path });
  expect(exitCode).toBe(1);
  rig.replace({});
  expect(rig.snapshot()).toEqual(before);
  expect(rig.links(container)).toEqual(["lo"]);
  return json;
}

function error(code: number, msg: string): Outcome {
  return { exitCode: 1, stdout: JSON.stringify({ cniVersion: "1.1.0", code, msg }), stderr: "" };
}

class FailingNftables extends Nftables {
  override async apply(): Promise<void> {
    throw new Error("Cannot add elements: a made-up failure");
  }
}

class UnremovingNftables extends Nftables {
  override async change(): Promise<void> {
    throw new Error("Cannot delete elements: a made-up failure");
  }
}

describe.each([
  ["on a fresh host", false],
  ["beside another container", true],
])("%s", (_, hasOther) => {
  beforeEach(async () => {
    if (hasOther) await rig.attach(everything);
  });

  test("a failing IPAM plugin leaves nothing, and its error is ours", async () => {
    intercept = (_, call) =>
      call.environment["CNI_COMMAND"] === "ADD" ? error(11, "pool is exhausted") : undefined;
    expect(await failingAdd()).toMatchObject({ code: 11, msg: "pool is exhausted" });
  });

  test("an IPAM answer without addresses leaves nothing", async () => {
    intercept = (_, call) =>
      call.environment["CNI_COMMAND"] === "ADD"
        ? { exitCode: 0, stdout: '{"cniVersion":"1.1.0"}', stderr: "" }
        : undefined;
    expect(await failingAdd()).toMatchObject({ code: 7, msg: "IPAM plugin returned missing IP config" });
  });

  test("a failing nftables leaves nothing, and gives the address back", async () => {
    rig.replace({ nftables: new FailingNftables({ namespacePath: rig.namespace.path }) });
    const { msg } = await failingAdd();
    expect(msg).toContain("a made-up failure");
    expect(asked.at(-1)).toBe("host-local DEL");
  });

  test("an impossible route leaves nothing, link and rules included", async () => {
    const ipam = { ...everything.ipam, routes: [impossibleRoute] };
    const { msg } = await failingAdd(rig.config({ ...everything, ipam }));
    expect(msg).toContain("10.1.0.200");
  });

  test("a bridge address that contradicts leaves nothing", async () => {
    const ipam = { type: "static", addresses: [{ address: "10.77.0.2/24" }] };
    if (!hasOther)
      rig.namespace.run("ip link add br1 type bridge; ip link set br1 up; ip addr add 10.7.0.1/24 dev br1");
    expect(await failingAdd(rig.config({ ...everything, ipam }))).toMatchObject({ code: 7 });
  });

  test.each([
    ["promiscMode", { promiscMode: true, hairpinMode: false }],
    ["vlanTrunk", { vlanTrunk: [{ id: 5 }] }],
  ])("nor does it leave the %s of its configuration on an operator's bridge", async (_, extra) => {
    rig.namespace.run("ip link add br7 type bridge; ip addr add 10.7.0.1/24 dev br7");
    const json = await failingAdd(rig.config({ ...everything, ...extra, bridge: "br7" }));
    expect(json).toMatchObject({ code: 7, msg: expect.stringContaining('"br7"') as string });
    expect(rig.link("br7").flags).not.toContain("UP");
    expect(hasOther || !rig.namespace.run("nft list ruleset").includes("netctl")).toBe(true);
  });

  test("a caller that gives up meanwhile leaves nothing", async () => {
    const controller = new AbortController();
    intercept = () => {
      controller.abort();
      return undefined;
    };
    const container = rig.container();
    const before = rig.snapshot();
    const answer = await rig.add(rig.config(everything), {
      netns: container.path,
      signal: controller.signal,
    });
    expect(answer.json).toMatchObject({ code: 11 });
    expect(rig.snapshot()).toEqual(before);
  });
});

test("a bridge that somebody takes away meanwhile, as a failed ADD does that had made it, is made again", async () => {
  rig.namespace.run("ip link add br1 type bridge; ip link set br1 up");
  intercept = (_, call) => {
    if (call.environment["CNI_COMMAND"] === "ADD") rig.namespace.run("ip link del br1");
    return undefined;
  };
  const { container } = await rig.attach(everything);
  expect(rig.reaches(container, "10.1.0.1")).toBe(true);
});

testWith(
  ["bridge-vlan-filtering"],
  "a failed ADD leaves the VLAN's gateway to another container",
  async () => {
    const inVlan = { isGateway: true, vlan: 100, ipam: { type: "host-local", subnet: "fd00:1::/64" } };
    const controller = new AbortController();
    // Duplicate address detection takes a second, in which the other one comes.
    const first = rig.add(rig.config({ ...inVlan, enabledad: true }), {
      netns: rig.container().path,
      signal: controller.signal,
    });
    await expect.poll(() => rig.links()).toContain("br1.100");
    const other = await rig.attach(inVlan);
    controller.abort();
    expect(await first).toMatchObject({ exitCode: 1, json: { code: 11 } });
    expect(rig.links()).toContain("br1.100");
    expect(rig.reaches(other.container, "fd00:1::1")).toBe(true);
    await rig.detach(other);
    expect(rig.links()).not.toContain("br1.100");
  },
);

test("a journal that can't be written stops the ADD before anything is made", async () => {
  rig.replace({ journal: new Journal({ directory: "/proc/version", bootId: "x" }) });
  const { code } = await failingAdd();
  expect(code).toBe(5);
  expect(asked).toEqual([]);
});

test("a journal that fails in the middle takes everything back", async () => {
  class ForgetfulJournal extends Journal {
    override async begin(...args: Parameters<Journal["begin"]>) {
      const entry = await super.begin(...args);
      entry.complete = () => {
        throw new Error("Cannot append to journal record: no space left on device");
      };
      return entry;
    }
  }
  const directory = join(rig.host.directories.state, "journal");
  rig.replace({ journal: new ForgetfulJournal({ directory, bootId: rig.host.bootId }) });
  const { msg } = await failingAdd();
  expect(msg).toContain("no space left");
});

test("beside many containers it reads a few records, and leaves to GC what all would have to be read for", async () => {
  class CountingJournal extends Journal {
    reads = 0;

    override *eachDated(network?: string) {
      for (const each of super.eachDated(network)) {
        const read = () => {
          this.reads += 1;
          return each.read();
        };
        yield { ...each, read };
      }
    }
  }
  const { directories, bootId } = rig.host;
  const journal = new CountingJournal({ directory: join(directories.state, "journal"), bootId });
  rig.replace({ journal });
  for (let index = 0; index < 40; index++) {
    const key = { network: "net9", containerId: `there${index}`, ifName: "eth0" };
    const entry = await journal.begin({ key, plugin: "bridge", config: {}, args: [], made: {} });
    entry.complete({});
  }
  const before = rig.elements();
  const ipam = { ...everything.ipam, routes: [impossibleRoute] };
  const { exitCode } = await rig.add(rig.config({ ...everything, ipam }), { netns: rig.container().path });
  expect(exitCode).toBe(1);
  expect(journal.reads).toBeLessThan(20);
  const list = { "cni.dev/valid-attachments": [] };
  expect(await rig.call(bridge, "GC", rig.config({ ...everything, ...list }))).toMatchObject({ exitCode: 0 });
  expect(rig.elements()).toEqual(before);
});

test("what can't be taken back stays in the journal, is named, and goes with the next DEL", async () => {
  const container = rig.container();
  rig.replace({ nftables: new UnremovingNftables({ namespacePath: rig.namespace.path }) });
  const ipam = { ...everything.ipam, routes: [impossibleRoute] };
  const config = rig.config({ ...everything, ipam });
  const { json } = await rig.add(config, { netns: container.path });
  expect(json["msg"]).toContain("10.1.0.200");
  expect(json["details"]).toContain("nftables elements");
  expect(rig.elements().filter((element) => element.startsWith("mac_"))).toHaveLength(2);
  expect(rig.host.journal.list()).toHaveLength(1);
  rig.replace({});
  await rig.detach({ containerId: "c1", config });
  expect(rig.elements().filter((element) => !element.startsWith("same_subnet"))).toEqual([]);
  expect(rig.host.journal.list()).toEqual([]);
});

test("a full bridge is refused with the reason", async () => {
  rig.namespace.run(
    `ip link add br1 type bridge
     for i in $(seq 1023); do echo link add p$i master br1 type veth peer q$i; done | ip -batch -`,
  );
  const container = rig.container();
  const { json } = await rig.add(rig.config(), { netns: container.path });
  expect(json).toMatchObject({ code: 11, msg: expect.stringContaining("1023") as string });
  expect(rig.host.journal.list()).toEqual([]);
  expect(rig.files()).toEqual([]);
});

/** What an ADD leaves that was killed at some point: everything it made, and a record in that phase. */
describe("after kill -9", () => {
  async function killed(
    phase: "before IPAM" | "after IPAM" | "made",
  ): Promise<{ container: ReturnType<BridgeRig["container"]> }> {
    const container = rig.container();
    const { journal } = rig.host;
    class KilledJournal extends Journal {
      override async begin(...args: Parameters<Journal["begin"]>) {
        const entry = await super.begin(...args);
        const amend = entry.amend.bind(entry);
        const die = () => new Promise<never>(() => {});
        if (phase === "before IPAM") await die();
        entry.amend = (made) => {
          amend(made);
          if (phase === "after IPAM") throw new Killed();
        };
        entry.complete = () => {
          throw new Killed();
        };
        // Nothing is taken back by a dead process.
        entry.remove = () => {};
        return entry;
      }

      override leave(): void {}
    }
    class Killed extends Error {}
    const directory = join(rig.host.directories.state, "journal");
    const nftables = new UnremovingNftables({ namespacePath: rig.namespace.path });
    rig.replace({ journal: new KilledJournal({ directory, bootId: rig.host.bootId }), nftables });
    intercept = (_, call) => (call.environment["CNI_COMMAND"] === "DEL" ? error(5, "dead") : undefined);
    const add = rig.add(rig.config(everything), { netns: container.path });
    if (phase === "before IPAM") await expect.poll(() => journal.list().length).toBe(1);
    else await add;
    intercept = undefined;
    rig.replace({});
    expect(journal.list()).toMatchObject([{ phase: "intent" }] satisfies Partial<JournalRecord>[]);
    return { container };
  }

  const left = () => ({
    links: rig.links().filter((name) => name.startsWith("veth")),
    elements: rig.elements().filter((element) => !element.startsWith("same_subnet")),
    files: rig.files(),
  });
  const nothing = { links: [], elements: [], files: [] };

  describe.each(["before IPAM", "after IPAM", "made"] as const)("%s", (phase) => {
    test("the next DEL cleans", async () => {
      await killed(phase);
      await rig.detach({ containerId: "c1", config: rig.config(everything) });
      expect(left()).toEqual(nothing);
    });

    test("the next GC cleans", async () => {
      await killed(phase);
      const config = { ...rig.config(everything), "cni.dev/valid-attachments": [] };
      expect(await rig.call(bridge, "GC", config)).toMatchObject({ exitCode: 0 });
      expect(left()).toEqual(nothing);
      expect(rig.elements()).toEqual([]);
    });

    test("the next ADD cleans first, and succeeds", async () => {
      const { container } = await killed(phase);
      const { json } = await rig.add(rig.config(everything), { netns: container.path });
      expect(json["interfaces"]).toHaveLength(3);
      expect(rig.host.journal.list()).toHaveLength(1);
      expect(rig.reaches(container, "10.1.0.1")).toBe(true);
    });
  });
});

describe("a link of the name that the attachment derives for the host", () => {
  const name = hostVethName({ network: "net1", containerId: "c1", ifName: "eth0" });

  test("is a leftover where no record has it, and makes place", async () => {
    rig.namespace.run(`ip link add ${name} type veth peer other`);
    const container = rig.container();
    expect(await rig.add(rig.config(), { netns: container.path })).toMatchObject({ exitCode: 0 });
    expect(rig.links()).not.toContain("other");
  });

  test("stays where it is another attachment's, and both work", async () => {
    // As if both derived the same: the record of the other says so.
    const other = rig.container();
    expect(await rig.add(rig.config(), { netns: other.path })).toMatchObject({ exitCode: 0 });
    const journal = join(rig.host.directories.state, "journal", "net1");
    const [record = ""] = readdirSync(journal);
    const content = readFileSync(join(journal, record));
    rmSync(join(journal, record));
    await rig.host.journal.begin({
      key: { network: "net9", containerId: "other", ifName: "eth0" },
      plugin: "bridge",
      config: {},
      args: [],
      made: (decodeRecord(content) as { made: JsonObject }).made,
    });
    const container = rig.container();
    const config = rig.config({ ipam: { type: "static", addresses: [{ address: "10.1.0.9/24" }] } });
    const { json } = await rig.add(config, { netns: container.path });
    expect(json["interfaces"]).toHaveLength(3);
    expect(rig.reaches(container, "10.1.0.2")).toBe(true);
    await rig.detach({ containerId: "c1", config });
    expect(rig.links()).toContain(name);
  });
});

describe("what holds for a network", () => {
  const policy = () => rig.namespace.run("nft list table inet netctl").match(/elements = .*"br\w*"/g) ?? [];

  test("goes with the last two containers also where both leave at once", async () => {
    const [one, other] = [await rig.attach(everything), await rig.attach(everything)];
    expect(policy()).not.toEqual([]);
    // As far as the other's DEL has come when this one's looks.
    rig.host.journal.leave({ network: "net1", containerId: other.containerId, ifName: "eth0" }, "bridge");
    await rig.detach(one);
    expect(policy()).toEqual([]);
    await rig.detach(other);
  });

  test("stays for the containers that stay", async () => {
    const [one, other] = [await rig.attach(everything), await rig.attach(everything)];
    const before = policy();
    await rig.detach(one);
    expect(policy()).toEqual(before);
    await rig.detach(other);
    expect(policy()).toEqual([]);
  });
});
