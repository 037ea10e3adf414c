import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";
import { WireCapture } from "#testing/wire-capture.ts";

let service: BuiltService;
let lab: ClusterLab;
/** The sandboxes of host 2: s2 in the encrypted network, p2 in the other. */
let there: string;
let plain: string;

beforeAll(async () => {
  service = await buildService();
  lab = await ClusterLab.start(service, 2);
  await create("secret", "--opt", "encrypted", "--ipv6");
  await create("plain");
  await lab.sandbox(1, "s1", "secret");
  there = await lab.sandbox(2, "s2", "secret");
  await lab.sandbox(1, "p1", "plain");
  plain = await lab.sandbox(2, "p2", "plain");
}, 120_000);
beforeEach(async () => await untilReached());
afterAll(async () => {
  await lab.remove();
  service.remove();
});

/** What pings of these tests carry: whoever can read the wire finds it. */
const secret = "6e657463746c2d736563726574";
const carrying = ["-p", secret];

async function create(name: string, ...words: readonly string[]): Promise<void> {
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", name, ...words);
  for (const host of [1, 2])
    await lab.until(`host ${host} knows ${name}`, async () =>
      (await lab.netctl(host, "network", "ls", "--json")).includes(`"${name}"`),
    );
}

async function untilReached(): Promise<void> {
  await lab.until("s1 reaches s2", async () => await lab.pings(1, "s1", there, carrying));
}

/** The process that is the WireGuard device of a host; undefined where there is none. */
function wireguardPid(host: number): number | undefined {
  const name = /(nx[0-9a-f]+[ab]):/.exec(lab.host(host).run("ip -o link"))?.[1];
  if (name === undefined) return undefined;
  const { stdout } = spawnSync("pgrep", ["-f", `^wireguard-go -f ${name}$`], { encoding: "utf8" });
  return stdout === "" ? undefined : Number(stdout.trim());
}

function killWireguard(host: number): number {
  const pid = wireguardPid(host);
  if (pid === undefined) throw new Error(`host ${host} has no wireguard-go`);
  process.kill(pid, "SIGKILL");
  return pid;
}

describe("an encrypted network", () => {
  testWith(["vxlan", "wireguard-go"], "is unreadable on the wire, and one beside it is not", async () => {
    const first = await WireCapture.start(lab.underlay.wire, "p1");
    for (let count = 0; count < 3; count++) expect(await lab.pings(1, "s1", there, carrying)).toBe(true);
    const encrypted = await first.stop();
    expect(encrypted.includes(secret)).toBe(false);
    expect(encrypted.matching("udp port 4789")).toEqual([]);
    expect(encrypted.matching("udp port 51842").length).toBeGreaterThanOrEqual(6);
    encrypted.remove();

    const second = await WireCapture.start(lab.underlay.wire, "p1");
    await lab.until("p2 is reached", async () => await lab.pings(1, "p1", plain, carrying));
    const clear = await second.stop();
    expect(clear.includes(secret)).toBe(true);
    clear.remove();

    // The largest packet that containers may send gets there whole: 1500 less WireGuard's 60 and VXLAN's 70.
    const mtu = 1370;
    expect(lab.host(1).run(`nsenter --net=${lab.path(1, "run", "netns", "s1")} ip link show eth0`)).toContain(
      `mtu ${mtu} `,
    );
    expect(await lab.pings(1, "s1", there, ["-M", "do", "-s", String(mtu - 28)])).toBe(true);
    expect(statSync(lab.path(1, "state", "overlay", "wireguard.json")).mode & 0o777).toBe(0o600);
  });

  testWith(
    ["vxlan", "wireguard-go"],
    "comes back when its process is killed, and goes on without netd",
    async () => {
      const capture = await WireCapture.start(lab.underlay.wire, "p1");
      const before = killWireguard(1);
      await lab.until("another one runs", async () => {
        await lab.pings(1, "s1", there, carrying);
        return ![undefined, before].includes(wireguardPid(1));
      });
      await untilReached();

      const captured = await capture.stop();
      expect(captured.includes(secret)).toBe(false);
      captured.remove();

      const pid = wireguardPid(1);
      const registered = lab.log(1).split('"registered"').length;
      await lab.killNetd(1);
      expect(await lab.pings(1, "s1", there)).toBe(true);
      lab.startNetd(1);
      await lab.until("netd is back", () => lab.log(1).split('"registered"').length > registered);
      expect(await lab.pings(1, "s1", there)).toBe(true);
      expect(wireguardPid(1)).toBe(pid);
    },
  );

  testWith(["vxlan", "wireguard-go"], "lets nothing out without a key that the other knows", async () => {
    const capture = await WireCapture.start(lab.underlay.wire, "p1");
    const isSilent = async (why: string) => {
      for (let count = 0; count < 3; count++)
        expect(await lab.pings(1, "s1", there, carrying), why).toBe(false);
    };
    const keyFile = lab.path(2, "state", "overlay", "wireguard.json");
    const status = async (host: number) => await lab.netctl(host, "cluster", "status").catch(String);

    await lab.killNetd(2);
    killWireguard(2);
    await isSilent("host 2 has no device");
    writeFileSync(keyFile, "{");
    lab.startNetd(2);
    await lab.until("host 2 says that it has no key", async () =>
      (await status(2)).includes("Cannot read the keys in"),
    );
    await isSilent("host 2 has no key");

    await lab.killNetd(2);
    rmSync(keyFile);
    await lab.killEtcd();
    lab.startNetd(2);
    await lab.until("host 2 has a key of its own", () => wireguardPid(2) !== undefined);
    await isSilent("host 1 does not know the key");
    lab.startEtcd();
    await lab.untilEtcdAnswers();
    await untilReached();

    const captured = await capture.stop();
    expect(captured.includes(secret)).toBe(false);
    expect(captured.matching("udp port 4789")).toEqual([]);
    captured.remove();
  });

  testWith(["vxlan", "wireguard-go"], "takes nothing that is clear, not even without any rule", async () => {
    await lab.killNetd(1);
    lab.host(1).run("nft flush ruleset");
    interface Tunnel {
      readonly ifname: string;
      readonly address: string;
      readonly linkinfo: { readonly info_data: { readonly id: number } };
    }
    const tunnels = lab.host(1).json<Tunnel>("ip -j -d link show type vxlan");
    const tunnelOf = (prefix: string) => {
      const found = tunnels.find(({ ifname }) => ifname.startsWith(prefix));
      if (!found) throw new Error(`no tunnel ${prefix}: ${JSON.stringify(tunnels)}`);
      return found;
    };
    /** How many pings in the clear arrive at a sandbox, of those that a neighbour on the wire forges. */
    const forged = (sandbox: string, { address, linkinfo }: Tunnel, from: string, to: string): number => {
      const netns = lab.path(1, "run", "netns", sandbox);
      const victim = addressOf(1, sandbox, 4);
      const before = pingsArrived(netns);
      lab.underlay.wire.run(`ip link add evil type vxlan id ${linkinfo.info_data.id} dstport 4789 local ${from} nolearning udp6zerocsumtx udp6zerocsumrx
        ip link set evil mtu 1300 up; ip address add 10.200.0.9/32 dev evil
        bridge fdb add ${address} dev evil dst ${to}
        ip neigh add 10.200.0.1 lladdr ${address} dev evil nud permanent
        ip route add ${victim}/32 via 10.200.0.1 dev evil onlink
        ping -c3 -i0.2 -W1 -I 10.200.0.9 ${victim} >/dev/null || true
        ip link del evil`);
      return pingsArrived(netns) - before;
    };
    const underlays = [
      ["203.0.113.254", "203.0.113.1"],
      ["2001:db8:ff::fe", "2001:db8:ff::1"],
    ] as const;
    // Without rules a plain network takes them: so they were forged well.
    const [[from, to]] = underlays;
    expect(forged("p1", tunnelOf("nv"), from, to)).toBe(3);
    for (const [from, to] of underlays) expect(forged("s1", tunnelOf("ne"), from, to)).toBe(0);
    lab.startNetd(1);
  });

  testWith(["vxlan", "wireguard-go"], "loses no packet while a key is replaced", async () => {
    const told = async (): Promise<readonly string[]> => {
      const text = await lab.netctl(1, "cluster", "status", "--json").catch(() => "{}");
      const { agent } = JSON.parse(text) as { agent?: { publicKeys: readonly string[] } | null };
      return agent?.publicKeys ?? [];
    };
    let before: readonly string[] = [];
    await lab.until("host 1 tells its key", async () => {
      before = await told();
      return before.length === 1;
    });
    const netns = lab.path(1, "run", "netns", "s1");
    const flows = [there, addressOf(2, "s2", 6)].map((address) => new Flow(netns, address));
    for (const flow of flows) await lab.until("packets flow", () => flow.answers > 0);
    await lab.netctl(1, "cluster", "rotate-key");
    await lab.until("the new key alone is told", async () => {
      const now = await told();
      return now.length === 1 && now[0] !== before[0];
    });
    // Both go over to it: nothing comes by the old one any more.
    for (const flow of flows) {
      const before = flow.answers;
      await lab.until("packets go on", () => flow.answers > before + 40);
      const { sent, received } = await flow.end();
      // The last one may have been under way.
      expect(sent - received).toBeLessThanOrEqual(1);
      expect(sent).toBeGreaterThan(40);
    }
  });

  testWith(["vxlan", "wireguard-go"], "leaves no process behind", async () => {
    const pids = [1, 2].map(wireguardPid);
    expect(pids).not.toContain(undefined);
    for (const host of [1, 2]) await lab.netctl(host, "sandbox", "rm", `s${host}`);
    await lab.netctl(1, "network", "rm", "secret");
    for (const pid of pids) await lab.until("it has ended with its network", () => !isRunning(pid ?? 0));
  });
});

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Pings from a namespace, twenty a second, until the end. */
class Flow {
  readonly #child: ChildProcess;
  #said = "";

  constructor(netns: string, address: string) {
    this.#child = spawn("nsenter", [`--net=${netns}`, "ping", "-i0.05", address]);
    this.#child.stdout?.on("data", (part: Buffer) => {
      this.#said += part.toString();
    });
  }

  get answers(): number {
    return this.#said.split("bytes from").length - 1;
  }

  async end(): Promise<{ readonly sent: number; readonly received: number }> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill("SIGINT");
    await ended;
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(this.#said) ?? [];
    return { sent: Number(sent), received: Number(received) };
  }
}

/** The address of a sandbox. */
function addressOf(host: number, sandbox: string, family: 4 | 6): string {
  const netns = lab.path(host, "run", "netns", sandbox);
  const [address] = lab
    .host(host)
    .json<{ addr_info: { local: string }[] }>(
      `nsenter --net=${netns} ip -j -${family} address show eth0 scope global`,
    )
    .flatMap((link) => link.addr_info.map(({ local }) => local));
  if (address === undefined) throw new Error(`${sandbox} has no IPv${family} address`);
  return address;
}

/** Echo requests that a namespace has got. */
function pingsArrived(netns: string): number {
  const text = lab.host(1).run(`nsenter --net=${netns} cat /proc/net/snmp`);
  const [head = "", values = ""] = text.split("\n").filter((line) => line.startsWith("Icmp:"));
  return Number(values.split(" ")[head.split(" ").indexOf("InEchos")] ?? Number.NaN);
}
