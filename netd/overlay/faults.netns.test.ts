import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, vi } from "vitest";
import { containsIp, parseCidr } from "#net/cidr.ts";
import { tryParseIp } from "#net/ip.ts";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";

/** `npm run faults:overlay` runs all of them, for minutes; the tests run a few. */
const runsAll = process.env["NETCTL_OVERLAY_FAULTS"] === "all";

if (runsAll) vi.setConfig({ testTimeout: 240_000 });

let hosts: readonly number[] = [];
let isOneSegment = false;
let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
afterEach(async () => await lab.remove());

/** Pings from one container to another, five a second, through all that happens. */
class Pings {
  readonly #child: ChildProcess;
  #text = "";

  constructor(host: number, sandbox: string, target: string) {
    const netns = lab.path(host, "run", "netns", sandbox);
    this.#child = spawn("nsenter", [`--net=${netns}`, "ping", "-i", "0.2", "-W", "1", target], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#child.stdout?.on("data", (piece: Buffer) => {
      this.#text += piece.toString();
    });
  }

  /** How many were sent, and how many were not answered. */
  async stop(): Promise<{ readonly sent: number; readonly lost: number }> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill("SIGINT");
    await ended;
    const found = /(\d+) packets transmitted, (\d+) received/.exec(this.#text);
    const [sent, received] = [Number(found?.[1]), Number(found?.[2])];
    // The last one may be on its way.
    return { sent, lost: Math.max(0, sent - received - 1) };
  }
}

/** What is not as it should be between journal, kernel and engine; empty when all is well. */
async function disagreements(): Promise<readonly string[]> {
  const found: string[] = [];
  const listed = JSON.parse(await lab.netctl(1, "cluster", "host", "ls", "--json")) as readonly {
    readonly name: string;
    readonly isLive: boolean;
    readonly blocks: readonly string[];
  }[];
  const blocksOf = (host: number) => listed.find(({ name }) => name === `h${host}`)?.blocks ?? [];
  const owners = new Map<string, number>();
  for (const host of hosts) {
    if (!listed.find(({ name }) => name === `h${host}`)?.isLive) found.push(`h${host} is not live`);
    const leases = lab.path(host, "state", "overlay", "leases", "web");
    // A host without a container in it has none.
    for (const file of existsSync(leases) ? readdirSync(leases) : []) {
      const ip = tryParseIp(file);
      if (!ip) continue;
      if (owners.has(file)) found.push(`${file} is given out by h${owners.get(file)} and h${host}`);
      owners.set(file, host);
      if (!blocksOf(host).some((block) => containsIp(parseCidr(block), ip)))
        found.push(`${file} of h${host} is in no block of it`);
    }
    const routes = lab
      .host(host)
      .run("ip route show proto 201 | grep -v unreachable | cut -d' ' -f1 || true")
      .trim()
      .split("\n")
      .sort();
    if (hosts.length <= 3) found.push(...(await differencesOn(host)));
    // Of one segment its inspection says all.
    if (isOneSegment) continue;
    const takesPart = blocksOf(host).length > 0;
    const wanted = takesPart ? hosts.flatMap((other) => (other === host ? [] : blocksOf(other))).sort() : [];
    if (routes.join() !== wanted.join())
      found.push(`h${host} has routes ${routes.join()}, not ${wanted.join()}`);
  }
  return found;
}

/** What `netctl inspect` finds: engine, records and kernel, of the network and of each of its containers here. */
async function differencesOn(host: number): Promise<readonly string[]> {
  const { networks } = JSON.parse(await lab.netctl(host, "inspect", "web", "--json")) as {
    readonly networks: readonly {
      readonly differences: readonly string[];
      readonly attachments: readonly { readonly differences: readonly string[] }[];
    }[];
  };
  return networks
    .flatMap(({ differences, attachments }) => [
      ...differences,
      ...attachments.flatMap((attachment) => attachment.differences),
    ])
    .map((words) => `h${host}: ${words}`);
}

/** @param isFaultOver how long it takes counts */
async function untilSettled(isFaultOver: boolean): Promise<void> {
  let last: readonly string[] = [];
  const startMs = performance.now();
  await lab
    .until("journal, kernel and engine agree", async () => {
      last = await disagreements().catch((error: unknown) => [String(error)]);
      return last.length === 0;
    })
    .catch((error: unknown) => {
      throw new Error(`${String(error)}: ${last.join("; ")}`);
    });
  const seconds = (performance.now() - startMs) / 1000;
  if (!runsAll) return;
  if (!isFaultOver) return;
  process.stdout.write(`  settled after ${seconds.toFixed(1)} s\n`);
  expect(seconds, "until journal, kernel and engine agree").toBeLessThan(10);
}

let made = 0;
/** Containers come and go on every host; every other one stays. */
const churn = async (rounds: number) => await lab.churn(rounds, "web", hosts, (round) => round % 2 === 0);

const hostId = async (host: number) => {
  const listed = JSON.parse(await lab.netctl(1, "cluster", "host", "ls", "--json")) as readonly {
    readonly id: string;
    readonly name: string;
  }[];
  return listed.find(({ name }) => name === `h${host}`)?.id ?? "";
};

interface Fault {
  readonly name: string;
  /** Also in the tests, which must not take long. */
  readonly isShort?: true;
  readonly members: 1 | 3;
  /** Default 3. The first three have a container each before it happens. */
  readonly hosts?: number;
  /** Of the network. */
  readonly flags?: readonly string[];
  readonly isEncrypted?: true;
  /** Pings that may get lost, of those between containers that nobody touches. Default 1. */
  readonly mayLose?: (sent: number) => number;
  readonly happen: () => Promise<void>;
}

async function leaderOf(): Promise<number> {
  for (const member of [0, 1, 2]) {
    const text = await lab.etcdctl("endpoint", "status", "-w", "json").catch(() => "[]");
    const answers = JSON.parse(text) as readonly {
      readonly Endpoint: string;
      readonly Status: { readonly header: { readonly member_id: number }; readonly leader: number };
    }[];
    const leader = answers.find(({ Status }) => Status.header.member_id === Status.leader);
    const index = [0, 1, 2].find((each) => leader?.Endpoint.includes(lab.memberAddress(each)));
    if (index !== undefined) return index;
    await sleep(500 + member);
  }
  throw new Error("etcd has no leader");
}

async function killNetdAgainAndAgain(rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const host = (round % hosts.length) + 1;
    const coming = churn(2);
    await sleep(Math.random() * 700);
    await lab.killNetd(host);
    await coming;
    lab.startNetd(host);
  }
}

async function loss(percent: number): Promise<void> {
  const drop = `numgen random mod 100 < ${percent} drop`;
  lab.underlay.wire.run(`nft add table bridge loss
    nft add chain bridge loss f "{ type filter hook forward priority 0; }"
    nft add chain bridge loss i "{ type filter hook input priority 0; }"
    nft add rule bridge loss f '${drop}'; nft add rule bridge loss i '${drop}'`);
  await churn(6);
  lab.underlay.wire.run("nft delete table bridge loss");
}

const faults: readonly Fault[] = [
  {
    name: "the leader of etcd is killed while containers come and go",
    isShort: true,
    members: 3,
    async happen() {
      const rounds = runsAll ? 6 : 1;
      let isOver = false;
      const churning = (async () => {
        do await churn(3);
        while (!isOver);
      })();
      for (let round = 0; round < rounds; round++) {
        const killedMs = performance.now();
        const leader = await leaderOf();
        await lab.killEtcd(leader);
        await sleep(2000);
        lab.startEtcd(leader);
        await lab.untilEtcdAnswers(leader);
        // Every five seconds, or as soon as there is one again.
        await sleep(Math.max(0, 5000 - (performance.now() - killedMs)));
      }
      isOver = true;
      await churning;
    },
  },
  {
    name: "netd is killed, wherever it is, while containers come and go",
    isShort: true,
    members: 1,
    happen: () => killNetdAgainAndAgain(runsAll ? 24 : 2),
  },
  {
    name: "the same in one segment over all hosts, with names",
    members: 1,
    flags: ["-o", "mode=l2", "-o", "names=cluster"],
    happen: () => killNetdAgainAndAgain(12),
  },
  {
    name: "the same in an encrypted network",
    members: 1,
    flags: ["-o", "encrypted"],
    isEncrypted: true,
    happen: () => killNetdAgainAndAgain(12),
  },
  {
    name: "a host with an encrypted segment is stopped for a while, and its containers come and go elsewhere",
    members: 1,
    flags: ["-o", "encrypted", "-o", "mode=l2", "-o", "names=cluster"],
    isEncrypted: true,
    async happen() {
      lab.signalNetd(3, "SIGSTOP");
      for (let round = 0; round < 3; round++) {
        const name = `e${made++}`;
        await lab.sandbox(2, name, "web");
        if (round > 0) await lab.netctl(2, "sandbox", "rm", name);
      }
      await sleep(5000);
      lab.signalNetd(3, "SIGCONT");
    },
  },
  {
    name: "the member in use is cut off from the others",
    members: 3,
    async happen() {
      const address = lab.memberAddress(0);
      lab.underlay.wire.run(`nft add table ip cut
        nft add chain ip cut i "{ type filter hook input priority 0; }"
        nft add rule ip cut i iif lo ip daddr ${address} ip saddr != ${address} drop
        nft add rule ip cut i iif lo ip saddr ${address} ip daddr != ${address} drop`);
      await churn(6);
      lab.underlay.wire.run("nft delete table ip cut");
    },
  },
  {
    name: "history is compacted while a host is stopped",
    members: 1,
    async happen() {
      lab.signalNetd(3, "SIGSTOP");
      await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "more");
      await lab.sandbox(2, "m2", "more");
      await lab.etcdctl("put", "/x", "y");
      const revision = /"revision":(\d+)/.exec(await lab.etcdctl("get", "/x", "-w", "json"))?.[1] ?? "";
      await lab.etcdctl("compact", revision);
      lab.signalNetd(3, "SIGCONT");
      await lab.until("h3 knows the new network", async () =>
        (await lab.netctl(3, "network", "ls", "--json")).includes("more"),
      );
      await lab.netctl(2, "sandbox", "rm", "m2");
      await lab.netctl(2, "network", "rm", "more");
    },
  },
  {
    name: "etcd has no space left",
    members: 1,
    async happen() {
      const id = /"member_id":(\d+)/.exec(await lab.etcdctl("endpoint", "status", "-w", "json"))?.[1] ?? "";
      const body = JSON.stringify({ action: "ACTIVATE", memberID: id, alarm: "NOSPACE" });
      const post = `exec 3<>/dev/tcp/${lab.memberAddress(0)}/2379; printf 'POST /v3/maintenance/alarm HTTP/1.0\\r\\nContent-Length: ${body.length}\\r\\n\\r\\n%s' '${body}' >&3; cat <&3 >/dev/null`;
      lab.underlay.wire.run(`bash -c "${post.replaceAll('"', '\\"')}"`);
      await expect(lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "refused")).rejects.toThrow(
        /space/,
      );
      await lab.sandbox(1, "full1", "web");
      await lab.netctl(1, "sandbox", "rm", "full1");
      await lab.etcdctl("alarm", "disarm");
      await churn(2);
    },
  },
  {
    name: "etcd is restored from an old copy, and the cluster adopted",
    members: 1,
    async happen() {
      await lab.killEtcd();
      const copy = `${lab.etcdPath()}.copy`;
      cpSync(lab.etcdPath(), copy, { recursive: true });
      lab.startEtcd();
      await lab.untilEtcdAnswers();
      await lab.until("h1 is connected", async () =>
        (await lab.netctl(1, "cluster", "status").catch(() => "")).includes("connected"),
      );
      await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "newer");
      await churn(3);
      await lab.killEtcd();
      rmSync(lab.etcdPath(), { recursive: true });
      renameSync(copy, lab.etcdPath());
      lab.startEtcd();
      await lab.untilEtcdAnswers();
      await lab.until("the old copy is not believed", () => lab.log(1).includes("restored from an old copy"));
      await lab.netctl(1, "cluster", "adopt");
      await lab.until("the newer network is there", async () =>
        (await lab.netctl(1, "cluster", "status").catch(() => "")).includes("newer"),
      );
      await lab.netctl(1, "network", "rm", "newer");
    },
  },
  {
    name: "etcd is emptied, and the cluster adopted",
    members: 1,
    async happen() {
      await lab.emptyEtcd();
      await lab.until("the empty one is not believed", () => lab.log(2).includes("emptied"));
      await churn(3);
      await lab.netctl(2, "cluster", "adopt");
    },
  },
  {
    name: "etcd's replies to a host are lost, and what they answered is done",
    members: 1,
    async happen() {
      await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "-o", "names=host", "late");
      await lab.until("h2 has the network", async () =>
        (await lab.netctl(2, "network", "ls", "--json")).includes('"late"'),
      );
      lab.underlay.wire.run(`nft add table ip lost
        nft add chain ip lost o "{ type filter hook output priority 0; }"
        nft add rule ip lost o tcp sport 2379 ip daddr 203.0.113.2 drop`);
      // Its first there: the block is claimed, and nobody says so.
      const coming = lab.sandbox(2, "late2", "late").catch(() => "");
      const blocks = "/netctl/v1/default/block/late/";
      await lab.until(
        "the claim is written",
        async () => (await lab.etcdctl("get", "--prefix", blocks)) !== "",
      );
      await coming;
      lab.underlay.wire.run("nft delete table ip lost");
      await lab.netctl(2, "sandbox", "rm", "late2").catch(() => "");
      await lab.sandbox(2, "late2", "late");
      const claimed = await lab.etcdctl("get", "--prefix", "--keys-only", blocks);
      expect(claimed.split("\n").filter((line) => line !== "")).toHaveLength(1);
      await lab.netctl(2, "sandbox", "rm", "late2");
      await lab.netctl(1, "network", "rm", "late");
    },
  },
  {
    name: "thirty-two hosts claim their first addresses at once",
    members: 1,
    hosts: 32,
    // Sixty-four blocks: many of them meet.
    flags: ["--subnet", "10.33.0.0/20"],
    async happen() {
      await Promise.all(
        hosts.slice(3).map(async (host) => {
          await lab.until(`h${host} has the network`, async () =>
            (await lab.netctl(host, "network", "ls", "--json")).includes('"web"'),
          );
        }),
      );
      // As a runtime does: on a machine with 32 netds one may have no time for its callers.
      const create = async (host: number, triesLeft: number): Promise<string> => {
        try {
          return await lab.sandbox(host, `s${host}`, "web");
        } catch (error) {
          if (triesLeft === 0 || !String(error).includes("no answer within")) throw error;
          return await create(host, triesLeft - 1);
        }
      };
      const made = await Promise.all(hosts.slice(3).map(async (host) => await create(host, 3)));
      expect(new Set(made).size).toBe(hosts.length - 3);
    },
  },
  {
    name: "the underlay address of another host changes",
    members: 1,
    async happen() {
      lab.host(3).run(
        `ip address flush dev up0 scope global; ip address add 203.0.113.77/24 dev up0
         ip route add default via 203.0.113.254`,
      );
      await lab.until("the others know it", () =>
        lab.host(1).run("bridge fdb show").includes("203.0.113.77"),
      );
      await churn(4);
    },
  },
  {
    name: "a host is stopped for longer than its session lasts",
    members: 1,
    async happen() {
      lab.signalNetd(2, "SIGSTOP");
      const live = `/netctl/v1/default/live/${await hostId(2)}`;
      // A minute is what the session lasts.
      for (let second = 0; second < 120 && (await lab.etcdctl("get", live)) !== ""; second++)
        await sleep(1000);
      expect(await lab.etcdctl("get", live)).toBe("");
      lab.signalNetd(2, "SIGCONT");
    },
  },
  {
    name: "a host is removed while it is away, and comes back",
    members: 1,
    async happen() {
      const id = await hostId(3);
      await lab.killNetd(3);
      await lab.etcdctl("del", `/netctl/v1/default/live/${id}`);
      await lab.netctl(1, "cluster", "host", "rm", id);
      await churn(0);
      lab.startNetd(3);
    },
  },
  {
    name: "two hosts have one identity",
    members: 1,
    async happen() {
      const settings = readFileSync(lab.path(1, "state", "overlay", "host.json"), "utf8");
      const clone = lab.path(3, "state", "overlay", "host.json");
      const before = readFileSync(clone, "utf8");
      writeFileSync(clone, settings);
      await lab.until("the second one is refused", () =>
        lab.log(3).includes("Another machine uses the host id"),
      );
      writeFileSync(clone, before);
    },
  },
  {
    name: "the underlay's MTU is lowered",
    members: 1,
    async happen() {
      lab.host(2).run("ip link set up0 mtu 1400");
      await lab.until("all hosts give the network less", () =>
        hosts.every((host) =>
          readFileSync(lab.path(host, "state", "overlay", "networks", "web.json"), "utf8").includes(
            '"mtu":1350',
          ),
        ),
      );
      // Containers that were there before have the larger MTU still, and are told.
      const leases = readdirSync(lab.path(2, "state", "overlay", "leases", "web"));
      const address = leases.find((file) => tryParseIp(file)) ?? "";
      for (const size of ["1322", "1400"])
        await lab.until(`${size} bytes get there`, () => lab.pings(1, "s1", address, ["-s", size]));
    },
  },
  {
    name: "one packet of a hundred is lost",
    members: 1,
    mayLose: (sent) => sent * 0.1,
    happen: () => loss(1),
  },
  { name: "one packet of ten is lost", members: 1, mayLose: (sent) => sent * 0.5, happen: () => loss(10) },
];

describe("an overlay network, with packets flowing", () => {
  for (const fault of faults.filter(({ isShort }) => runsAll || isShort)) {
    const needs = ["vxlan", ...(fault.isEncrypted ? ["wireguard-go" as const] : [])] as const;
    testWith(needs, fault.name, async () => {
      const count = fault.hosts ?? 3;
      isOneSegment = fault.flags?.includes("mode=l2") === true;
      hosts = Array.from({ length: count }, (_, index) => index + 1);
      lab = await ClusterLab.start(service, count, [], fault.members);
      const words = ["-d", "overlay-vxlan", "-o", "names=host", ...(fault.flags ?? []), "web"];
      await lab.netctl(1, "network", "create", ...words);
      const addresses: string[] = [];
      for (const host of [1, 2, 3]) {
        await lab.until(`h${host} has the network`, async () =>
          (await lab.netctl(host, "network", "ls", "--json")).includes('"web"'),
        );
        addresses.push(await lab.sandbox(host, `s${host}`, "web"));
      }
      await untilSettled(false);
      await lab.untilPings(1, "s1", addresses[1] ?? "");
      const pings = new Pings(1, "s1", addresses[1] ?? "");
      await fault.happen();
      await untilSettled(true);
      const { sent, lost } = await pings.stop();
      if (runsAll) process.stdout.write(`  ${fault.name}: ${lost} of ${sent} pings lost\n`);
      expect(sent).toBeGreaterThan(0);
      // A busy machine may lose some by itself: there it is enough that forwarding went on.
      const allowed = fault.mayLose?.(sent) ?? (runsAll ? 1 : sent / 2);
      expect(lost, `of ${sent}`).toBeLessThanOrEqual(allowed);
      for (const [index, address] of addresses.entries())
        await lab.untilPings(((index + 1) % 3) + 1, `s${((index + 1) % 3) + 1}`, address);
    });
  }
});
