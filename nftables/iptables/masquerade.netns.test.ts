import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { IptablesMasquerade, masqueradeChain } from "./masquerade.ts";

const attachment = {
  network: "mynet",
  containerId: "c1",
  addresses: ["10.88.0.2/24", "fd88::2/64"].map(parseCidr),
};
const chain = masqueradeChain("mynet", "c1");
const comment = String.raw`-m comment --comment "name: \"mynet\" id: \"c1\""`;

let host: TestNamespace;
let iptables: IptablesMasquerade;

beforeEach(() => {
  host = TestNamespace.create("iptables");
  iptables = new IptablesMasquerade({ namespacePath: host.path });
});

afterEach(() => {
  host.remove();
});

/** The rules and own chains of the table nat, in iptables' words. */
function rules(program: "iptables" | "ip6tables"): readonly string[] {
  const lines = host.run(`${program} -t nat -S`).trim().split("\n");
  return lines.filter((line) => !line.startsWith("-P"));
}

describe("IptablesMasquerade", () => {
  it("makes the reference's chain and rules for each family", async () => {
    expect(chain).toMatch(/^CNI-[0-9a-f]{24}$/u);
    await iptables.add(attachment);
    expect(rules("iptables")).toEqual([
      `-N ${chain}`,
      `-A POSTROUTING -s 10.88.0.2/32 ${comment} -j ${chain}`,
      `-A ${chain} -d 10.88.0.0/24 ${comment} -j ACCEPT`,
      `-A ${chain} ! -d 224.0.0.0/4 ${comment} -j MASQUERADE`,
    ]);
    expect(rules("ip6tables")).toEqual([
      `-N ${chain}`,
      `-A POSTROUTING -s fd88::2/128 ${comment} -j ${chain}`,
      `-A ${chain} -d fd88::/64 ${comment} -j ACCEPT`,
      `-A ${chain} ! -d ff00::/8 ${comment} -j MASQUERADE`,
    ]);
    expect(await iptables.missing(attachment)).toEqual([]);
  });

  it("can be repeated", async () => {
    await iptables.add(attachment);
    const once = rules("iptables");
    await iptables.add(attachment);
    expect(rules("iptables")).toEqual(once);
  });

  it("excepts every subnet before it masquerades, though they come one after the other", async () => {
    await iptables.add({ ...attachment, addresses: [parseCidr("10.88.0.2/24")] });
    await iptables.add({ ...attachment, addresses: [parseCidr("10.89.0.2/24")] });
    const targets = rules("iptables")
      .filter((rule) => rule.startsWith(`-A ${chain}`))
      .map((rule) => rule.replace(/.* -j /u, ""));
    expect(targets).toEqual(["ACCEPT", "ACCEPT", "MASQUERADE"]);
  });

  it("names the rules that are missing", async () => {
    await iptables.add(attachment);
    host.run("iptables -t nat -F POSTROUTING");
    expect(await iptables.missing(attachment)).toEqual([
      `iptables -t nat -A POSTROUTING -s 10.88.0.2/32 -m comment --comment name: "mynet" id: "c1" -j ${chain}`,
    ]);
  });

  it("leaves nothing behind, and foreign rules alone", async () => {
    host.run("iptables -t nat -A POSTROUTING -s 10.88.0.2/32 -j ACCEPT");
    await iptables.add(attachment);
    await iptables.remove(attachment);
    expect(rules("iptables")).toEqual(["-A POSTROUTING -s 10.88.0.2/32 -j ACCEPT"]);
    expect(rules("ip6tables")).toEqual([]);
    await iptables.remove(attachment);
  });

  it("keeps the chain while another attachment of the container to the network leads to it", async () => {
    const second = { ...attachment, addresses: [parseCidr("10.88.0.3/24")] };
    await iptables.add(attachment);
    await iptables.add(second);
    await iptables.remove(attachment);
    expect(await iptables.missing(second)).toEqual([]);
    await iptables.remove(second);
    expect(rules("iptables")).toEqual([]);
  });

  it("bears names that need quoting", async () => {
    const odd = { ...attachment, network: `a "b" \\ $(c)`, containerId: "x".repeat(300) };
    await iptables.add(odd);
    expect(await iptables.missing(odd)).toEqual([]);
    await iptables.remove(odd);
    expect(rules("iptables")).toEqual([]);
  });

  it("says why it can't be used", async () => {
    await iptables.usable();
    const gone = new IptablesMasquerade({ namespacePath: "/run/netns/netctl-test-never-was" });
    await expect(gone.usable()).rejects.toThrow("netctl-test-never-was");
  });
});
