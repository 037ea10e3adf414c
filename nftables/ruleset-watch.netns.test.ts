import { closeSync, openSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseIp } from "#net/ip.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { Nftables } from "./nftables.ts";
import { ownerTag } from "./owner.ts";
import { RulesetWatch } from "./ruleset-watch.ts";

let host: TestNamespace;
let namespaceFd: number;
let nftables: Nftables;
let watch: RulesetWatch | undefined;
let reasons: string[];
let told: (() => void) | undefined;

beforeEach(async () => {
  watch = undefined;
  host = TestNamespace.create("watch");
  namespaceFd = openSync(host.path, "r");
  nftables = new Nftables({ namespacePath: host.path });
  await nftables.load("inet");
  await nftables.apply([element("10.1.0.2")]);
  reasons = [];
  watch = new RulesetWatch({
    namespaceFd,
    nftables,
    onChange: (reason) => {
      reasons.push(reason);
      told?.();
    },
    onEnd: (error) => {
      throw error;
    },
  });
});

afterEach(() => {
  watch?.close();
  nftables.close();
  closeSync(namespaceFd);
  host.remove();
});

function element(address: string) {
  return {
    set: "masquerade4",
    key: [parseIp(address)],
    owner: ownerTag("net1", address, "eth0"),
  } as const;
}

async function nextReason(): Promise<string> {
  if (reasons.length === 0) await new Promise<void>((resolve) => (told = resolve));
  return reasons.shift() ?? "";
}

describe("a watch", () => {
  it.each([
    ["nft flush ruleset", /deleted in table inet netctl$/u],
    ["nft delete table inet netctl", /deleted in table inet netctl$/u],
    ["nft flush table inet netctl", "rule deleted in table inet netctl"],
    ["nft flush set inet netctl masquerade4", "element deleted in table inet netctl"],
    ["nft delete element inet netctl masquerade4 '{ 10.1.0.2 }'", "element deleted in table inet netctl"],
    ["nft chain inet netctl postrouting '{ policy drop; }'", "chain changed in table inet netctl"],
    ["nft add table inet netctl '{ flags dormant; }'", "table changed in table inet netctl"],
  ])("tells of %s", async (command, reason) => {
    host.run(command);
    expect(await nextReason()).toMatch(reason);
  });

  it("tells nothing of what we commit ourselves, nor of others' own tables", async () => {
    await nftables.apply([element("10.1.0.3")]);
    await nftables.removeOwned([element("10.1.0.2")], ownerTag("net1", "10.1.0.2", "eth0"));
    host.run(
      "nft add table inet mine; nft add chain inet mine c; nft add rule inet mine c counter; nft delete table inet mine",
    );
    host.run("nft add element inet netctl masquerade4 '{ 10.9.9.9 }'");
    // The kernel tells in order: had there been anything to say of these, it would come first.
    host.run("nft chain inet netctl postrouting '{ policy drop; }'");
    expect(await nextReason()).toBe("chain changed in table inet netctl");
    expect(reasons).toEqual([]);
  });

  it("tells of the tables of attachments that have their own, and of the reference's chains in iptables", async () => {
    host.run(
      "nft add table ip netctl_ports_5f0c3a9e01234567; nft delete table ip netctl_ports_5f0c3a9e01234567",
    );
    expect(await nextReason()).toBe("table deleted in table ip netctl_ports_5f0c3a9e01234567");
    host.run(
      "iptables -t nat -N CNI-x; iptables -t nat -N other; iptables -t nat -X other; iptables -t nat -X CNI-x",
    );
    expect(await nextReason()).toBe("chain deleted in table ip nat");
    expect(reasons).toEqual([]);
  });
});

describe("asked whether it has missed something", () => {
  /** Asks as often as it takes to be sure. */
  const isMissed = (asked: RulesetWatch | undefined = watch) =>
    [1, 2].map(() => asked?.hasMissed(nftables.generation())).includes(true);

  it("has not, whoever commits what", async () => {
    await nftables.apply([element("10.1.0.3")]);
    expect(isMissed()).toBe(false);
    host.run("nft 'add table inet mine; add chain inet mine c'; nft flush ruleset");
    await nextReason();
    await nftables.load("inet");
    await nftables.apply([element("10.1.0.4")]);
    await nftables.apply([element("10.1.0.4")]);
    // The kernel tells in order.
    host.run("nft flush set inet netctl masquerade4");
    while (!(await nextReason()).startsWith("element deleted"));
    expect(isMissed()).toBe(false);
  });

  it("has what the kernel told to nobody", async () => {
    const stranger = new Nftables({ namespacePath: host.path });
    const blind = new RulesetWatch({
      namespaceFd,
      // What the stranger does is taken for one's own, and is not.
      nftables: {
        port: () => stranger.port(),
        generation: () => nftables.generation(),
        onCommit: () => () => undefined,
      },
      onChange: () => undefined,
      onEnd: (error) => {
        throw error;
      },
    });
    try {
      expect(isMissed(blind)).toBe(false);
      await stranger.removeOwned([element("10.1.0.2")], element("10.1.0.2").owner);
      expect([isMissed(blind), isMissed(blind)]).toEqual([true, false]);
    } finally {
      blind.close();
      stranger.close();
    }
  });
});
