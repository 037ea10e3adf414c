import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import type { Answer, VerbArguments } from "#testing/plugin-host.ts";
import { type AttachOptions, PortRig, type Published } from "#testing/port-rig.ts";
import { ask, type Question } from "#testing/traffic.ts";
import { firewall } from "./main.ts";

let rig: PortRig;

beforeEach(() => {
  rig = new PortRig();
});
afterEach(() => rig.close());

type Target = Pick<Published, "containerId" | "result"> & { readonly container: { readonly path: string } };

async function verb(
  name: Verb,
  { container, containerId, result }: Target,
  fields: JsonObject = {},
  more: VerbArguments = {},
): Promise<Answer> {
  const config = { cniVersion: "1.1.0", name: "net1", type: "firewall", prevResult: result, ...fields };
  return await rig.call(firewall, name, config, {
    ifName: "eth0",
    netns: container.path,
    containerId,
    ...more,
  });
}

/** A container behind bridge and firewall; both have to succeed, and firewall hands on what it got. */
async function attach(fields: JsonObject = {}, options: AttachOptions = {}): Promise<Published> {
  const attached = await rig.attach(options);
  const answer = await verb("ADD", attached, { name: options.network ?? "net1", ...fields });
  expect(answer.json, answer.stderr).toEqual(attached.result);
  return attached;
}

/** DEL as runtimes call it when they know nothing any more. */
async function forget(containerId: string, network = "net1"): Promise<void> {
  const config = { cniVersion: "1.1.0", name: network, type: "firewall" };
  const answer = await rig.call(firewall, "DEL", config, { containerId, ifName: "eth0" });
  expect(answer).toMatchObject({ exitCode: 0, json: {} });
}

/** Elements of the firewall's own sets. */
function elements(): string[] {
  const listing = rig.namespace.run("nft list table inet netctl 2>/dev/null || true");
  return [...listing.matchAll(/^\t(?:set|map) (admitted\d|ingress_\w+) \{\n(.*?)\n\t\}/gmsu)].flatMap(
    ([, name = "", body = ""]) =>
      (/elements = \{(.*)\}/su.exec(body)?.[1] ?? "")
        .split(",")
        .map((element) => element.replace(/ comment "[^"]*"/u, "").trim())
        .filter((element) => element !== "")
        .map((element) => `${name} ${element}`),
  );
}

async function reaches(from: Published, to: Published, port = 80): Promise<readonly string[]> {
  const questions = [to.ip4, to.ip6].map((address): Question => ({ protocol: "tcp", to: address, port }));
  return await ask(from.container, questions);
}

describe("open", () => {
  it("admits the container's addresses until DEL, and no other's", async () => {
    const one = await attach();
    const two = await attach();
    const all = [one, two].flatMap(({ ip4, ip6 }) => [`admitted4 ${ip4}`, `admitted6 ${ip6}`]);
    expect(elements().sort()).toEqual(all.sort());
    expect((await verb("CHECK", one)).json).toEqual({});
    await forget(one.containerId);
    expect(elements()).toEqual([`admitted4 ${two.ip4}`, `admitted6 ${two.ip6}`]);
    await forget(one.containerId);
    await forget("never-was");
    await forget(two.containerId);
    expect(elements()).toEqual([]);
    expect(rig.host.journal.list().filter(({ plugin }) => plugin === "firewall")).toEqual([]);
  });

  it("can be said twice", async () => {
    const one = await attach();
    expect((await verb("ADD", one)).json).toEqual(one.result);
    expect(elements()).toEqual([`admitted4 ${one.ip4}`, `admitted6 ${one.ip6}`]);
  });

  it("takes over an address whose last owner has left something, and that one's DEL leaves it alone", async () => {
    const gone = await attach();
    const next = { ...gone, containerId: "next" };
    expect((await verb("ADD", next)).json).toEqual(gone.result);
    await forget(gone.containerId);
    expect(elements()).toEqual([`admitted4 ${gone.ip4}`, `admitted6 ${gone.ip6}`]);
    expect((await verb("CHECK", next)).json).toEqual({});
    await forget("next");
    expect(elements()).toEqual([]);
  });

  it("is missed by CHECK, and put back by the next ADD", async () => {
    const one = await attach();
    rig.namespace.run("nft flush ruleset");
    expect((await verb("CHECK", one)).json).toMatchObject({
      msg: expect.stringContaining(`admitted4 { ${one.ip4} } is missing`) as string,
    });
    await verb("ADD", one);
    expect((await verb("CHECK", one)).json).toEqual({});
  });
});

describe("same-bridge", () => {
  it("keeps bridges that have it apart, and nobody else", async () => {
    const fields = { ingressPolicy: "same-bridge" };
    const one = await attach(fields);
    const two = await attach(fields);
    const other = await attach(fields, { network: "net2" });
    const plain = await attach({}, { network: "net3" });
    for (const each of [one, two, other, plain]) await rig.serve(each.container, "server", [80]);
    const [silent, answered] = [
      ["silence", "silence"],
      expect.arrayContaining([expect.stringContaining("sees")]),
    ];
    expect(await reaches(one, two)).toEqual(answered);
    expect(await reaches(one, other)).toEqual(silent);
    expect(await reaches(other, one)).toEqual(silent);
    expect(await reaches(plain, one)).toEqual(answered);
    expect(await reaches(one, plain)).toEqual(answered);
    expect((await verb("CHECK", one, fields)).json).toEqual({});
    await forget(one.containerId);
    expect(await reaches(other, two)).toEqual(silent);
    await forget(two.containerId);
    expect(elements().filter((element) => element.includes("br-net1"))).toEqual([]);
    expect(await reaches(other, two)).toEqual(answered);
  });

  it("follows a changed configuration, and is refused where another network on the bridge has another", async () => {
    const one = await attach({ ingressPolicy: "same-bridge" });
    await attach({ ingressPolicy: "isolated" });
    expect(elements()).toContain('ingress_isolated "br-net1" . "br-net1"');
    const { json } = await verb("ADD", one, { name: "rival", ingressPolicy: "same-bridge" });
    expect(json).toMatchObject({
      code: 7,
      msg: expect.stringMatching(/network "net1" has container/u) as string,
    });
    await attach({});
    expect(elements().filter((element) => element.startsWith("ingress"))).toEqual([]);
  });

  it("needs a bridge to be the same", async () => {
    const one = await rig.attach();
    const { interfaces: _, ...result } = one.result;
    const answer = await verb("ADD", { ...one, result }, { ingressPolicy: "same-bridge" });
    expect(answer.json).toMatchObject({
      code: 7,
      msg: expect.stringContaining('"ingressPolicy" "same-bridge"') as string,
    });
    expect(elements()).toEqual([]);
  });
});

describe("isolated", () => {
  it("keeps containers of one bridge apart too", async () => {
    const fields = { ingressPolicy: "isolated" };
    const one = await attach(fields);
    const two = await attach(fields);
    await rig.serve(two.container, "two", [80]);
    expect(new Set(await reaches(one, two))).not.toContain("two sees");
    expect((await reaches(one, two)).some((answer) => answer.includes("sees"))).toBe(false);
    // Nor by way of the host.
    one.container.run(`ip route add ${two.ip4} via 10.1.0.1; ip route add ${two.ip6} via fd00:1::1`);
    expect((await reaches(one, two)).some((answer) => answer.includes("sees"))).toBe(false);
    const question = { protocol: "tcp", to: two.ip4, port: 80 } as const;
    expect(await ask(rig.namespace, [question])).toEqual(["two sees 10.1.0.1"]);
    expect((await verb("CHECK", one, fields)).json).toEqual({});
    rig.namespace.run(`ip -br link show type veth | grep -o '^veth[0-9a-f]*' | while read -r port; do
      ip link set "$port" type bridge_slave isolated off; done`);
    expect((await verb("CHECK", one, fields)).json).toMatchObject({
      msg: expect.stringContaining("is not isolated") as string,
    });
  });
});

describe("verbs", () => {
  it("ADD without a previous result is refused in the reference's words", async () => {
    const one = await rig.attach();
    const config = { cniVersion: "1.1.0", name: "net1", type: "firewall" };
    const answer = await rig.call(firewall, "ADD", config, {
      ifName: "eth0",
      netns: one.container.path,
      containerId: one.containerId,
    });
    expect(answer.json).toMatchObject({ code: 7, msg: "missing prevResult from earlier plugin" });
  });

  it("versions before 0.4.0 are refused, as by the reference", async () => {
    const answer = await rig.call(firewall, "STATUS", { cniVersion: "0.3.1", name: "n", type: "firewall" });
    expect(answer.json).toMatchObject({ code: 1 });
  });

  it("GC removes what is not valid, also without a record", async () => {
    const one = await attach({ ingressPolicy: "same-bridge" });
    const two = await attach({ ingressPolicy: "same-bridge" });
    const lost = await attach({ ingressPolicy: "same-bridge" });
    rig.host.journal.remove({ network: "net1", containerId: lost.containerId, ifName: "eth0" }, "firewall");
    const config = (valid: readonly Published[]) => ({
      cniVersion: "1.1.0",
      name: "net1",
      type: "firewall",
      "cni.dev/valid-attachments": valid.map(({ containerId }) => ({
        containerID: containerId,
        ifname: "eth0",
      })),
    });
    expect((await rig.call(firewall, "GC", config([two]))).json).toEqual({});
    expect(elements().filter((element) => element.startsWith("admitted"))).toEqual([
      `admitted4 ${two.ip4}`,
      `admitted6 ${two.ip6}`,
    ]);
    expect(elements()).toContain('ingress_peers "br-net1"');
    expect((await rig.call(firewall, "GC", config([]))).json).toEqual({});
    expect(elements()).toEqual([]);
    await forget(one.containerId);
  });

  it("STATUS says whether the backend can be used", async () => {
    const config = { cniVersion: "1.1.0", name: "net1", type: "firewall" };
    expect((await rig.call(firewall, "STATUS", config)).json).toEqual({});
    expect(
      (await rig.call(firewall, "STATUS", { ...config, backend: "iptables", insistOnBackend: true })).json,
    ).toEqual({});
  });
});

describe("iptables, insisted on", () => {
  const insist = { backend: "iptables", insistOnBackend: true };
  const rules = (program = "iptables") =>
    rig.namespace
      .run(`${program} -S`)
      .split("\n")
      .map((line) => line.replace(/ -m comment --comment ("[^"]*"|\S+)/u, ""));

  it("makes the reference's rules, which let packets through a FORWARD chain that drops", async () => {
    rig.namespace.run("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
    const one = await rig.attach();
    await rig.serve(rig.lan, "lan", [7000]);
    const out = { protocol: "tcp", to: "192.0.2.2", port: 7000 } as const;
    expect(await ask(one.container, [out])).toEqual(["silence"]);
    expect((await verb("ADD", one, insist)).json).toEqual(one.result);
    expect(await ask(one.container, [out])).toEqual(["lan sees 192.0.2.1"]);
    expect(rules()).toEqual(
      expect.arrayContaining([
        "-A FORWARD -j CNI-FORWARD",
        "-A CNI-FORWARD -j CNI-ADMIN",
        `-A CNI-FORWARD -d ${one.ip4}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
        `-A CNI-FORWARD -s ${one.ip4}/32 -j ACCEPT`,
      ]),
    );
    expect(rules("ip6tables")).toContain(`-A CNI-FORWARD -s ${one.ip6}/128 -j ACCEPT`);
    expect((await verb("CHECK", one, insist)).json).toEqual({});
    expect((await verb("ADD", one, insist)).json).toEqual(one.result);
    expect(rules().filter((rule) => rule.includes(`-s ${one.ip4}`))).toHaveLength(1);
    await forget(one.containerId);
    expect(rules().filter((rule) => rule.includes(one.ip4))).toEqual([]);
    expect((await verb("CHECK", one, insist)).json).toMatchObject({
      msg: expect.stringContaining(`-s ${one.ip4}/32`) as string,
    });
  });

  it("asks the operator's chain first, and CHECK makes none", async () => {
    const one = await rig.attach();
    const fields = { iptablesAdminChainName: "MY-RULES" };
    expect((await verb("CHECK", one, fields)).json).toMatchObject({ code: 999 });
    expect(rules()).not.toContain("-N MY-RULES");
    await verb("ADD", one, fields);
    rig.namespace.run("iptables -A MY-RULES -p tcp --dport 7000 -j REJECT --reject-with tcp-reset");
    await rig.serve(rig.lan, "lan", [7000]);
    const out = { protocol: "tcp", to: "192.0.2.2", port: 7000 } as const;
    expect(await ask(one.container, [out])).toEqual(["ECONNREFUSED"]);
  });

  it("keeps bridges apart as the reference does, until the last container goes", async () => {
    const fields = { ...insist, ingressPolicy: "same-bridge" };
    const one = await attach(fields);
    const other = await attach(fields, { network: "net2" });
    await rig.serve(other.container, "other", [80]);
    expect(await reaches(one, other)).toEqual(["silence", "silence"]);
    expect(rules().slice(rules().indexOf("-A FORWARD -j CNI-ISOLATION-STAGE-1"))[1]).toBe(
      "-A FORWARD -j CNI-FORWARD",
    );
    await forget(one.containerId);
    expect(rules().filter((rule) => rule.includes("br-net1"))).toEqual([]);
    expect(rules()).toContain("-A CNI-ISOLATION-STAGE-2 -o br-net2 -j DROP");
  });
});

describe("firewalld", () => {
  it("that does not run is named as what is missing", async () => {
    const one = await rig.attach();
    const fields = { backend: "firewalld" };
    const answer = await verb("ADD", one, fields);
    expect(answer.json).toMatchObject({ msg: expect.stringContaining("Cannot use firewalld") as string });
    expect(elements()).toEqual([]);
    expect(rig.host.journal.list().filter(({ plugin }) => plugin === "firewall")).toEqual([]);
  });
});
