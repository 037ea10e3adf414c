// What is asked of two hosts that are machines of their own, in this order. A check leaves them as it found them.

import { vxlanPing } from "./forged.mjs";
import { interfaceOf, nameOf, networks, pings, send } from "./networks.mjs";
import { overhear, secret } from "./wire.mjs";

const etcd = "http://203.0.113.1:2379";
const encrypted = networks.filter(({ isEncrypted }) => isEncrypted);

function expect(isTrue, what) {
  if (!isTrue) throw new Error(what);
}

function expectNone(found, what) {
  expect(found.length === 0, `${what}: ${found.slice(0, 10).join("; ")}`);
}

/** Both directions between the containers of a network: who asks, his container, the other's container, the other. */
const ways = ([first, second], network) =>
  [
    [first, second],
    [second, first],
  ].map(([from, to]) => ({ from, to, near: nameOf(network, from), far: nameOf(network, to) }));

async function untilReached(hosts, chosen = networks) {
  for (const network of chosen)
    for (const { from, near, far } of ways(hosts, network))
      await from.until(`${near} reaches ${far}`, () => pings(from, near, far));
}

/** Code 11 says: try again later. A network that came just now may have no addresses for this host yet. */
async function createSandbox(host, network) {
  const name = nameOf(network, host);
  await host.until(`there is ${name}`, async () => {
    const said = await host.said(`netctl sandbox create ${name} --network ${network.name} && echo created`);
    if (said.endsWith("created")) return true;
    expect(said.includes("failed ADD with code 11"), `${host.name}: ${said}`);
    return false;
  });
}

/** It exits with 1 where something is wrong, as for a moment something may be. */
const statusOf = async (host) => await host.json("netctl cluster status --json || true");

/** What the wire must not show of containers in encrypted networks, addresses as headers have them, and what it may. */
async function tracesOf(hosts) {
  const traces = [];
  for (const network of encrypted) {
    const [a, b] = await Promise.all(hosts.map((host) => interfaceOf(host, nameOf(network, host))));
    const bytes = ({ v4 }) => Buffer.from(v4.split(".").map(Number));
    // Four bytes alone may come up by chance.
    traces.push(Buffer.concat([bytes(a), bytes(b)]), Buffer.concat([bytes(b), bytes(a)]));
    for (const { mac } of [a, b]) traces.push(Buffer.from(mac.replaceAll(":", ""), "hex"));
  }
  const { agent } = await statusOf(hosts[0]);
  const clear = agent.networks.filter(({ encrypted }) => !encrypted).map(({ vni }) => vni);
  return { traces, clear };
}

/** The host's WireGuard devices, oldest first, by their own kind. */
const devicesOf = async (host) =>
  (await host.json("ip -j -d link show type wireguard")).map(({ ifname }) => ifname).sort();

const publicKeysOf = async (host) => (await statusOf(host)).agent?.publicKeys ?? [];

/** Nothing of the encrypted networks gets to the other host while this goes on, and nothing shows on the wire. */
async function staysSilent([from, to], traces) {
  const addresses = await Promise.all(
    encrypted.map(async (network) => [network, await interfaceOf(to, nameOf(network, to))]),
  );
  const captured = await overhear(from, async () => {
    for (const [network, { v4, v6 }] of addresses)
      for (const target of [v4, v6])
        expect(
          !(await pings(from, nameOf(network, from), target, "-c2 -i0.3 -W3")),
          `${nameOf(network, from)} reaches ${target}`,
        );
  });
  expectNone(captured.leaks(traces), "The wire shows it");
}

/** Without these there is nothing to look at. */
export const beginning = [
  {
    title: "two machines on one wire, etcd on the first",
    async run([first, second]) {
      for (const host of [first, second])
        await host.text(`hostname ${host.name}
          ip address add ${host.address}/24 dev eth0
          ip address add 2001:db8:ff::${host.number}/64 dev eth0 nodad
          ip link set eth0 up
          ip route add default via 203.0.113.254
          mkdir -p /run/pair`);
      // Hosts are found with it and without it.
      await second.text("modprobe br_netfilter");
      await first.until("the other one answers", () => first.succeeds("ping -c1 -W5 203.0.113.2"));
      const words = [
        `--data-dir /run/pair/etcd --listen-client-urls ${etcd} --advertise-client-urls ${etcd}`,
        "--listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --logger zap --log-level error",
        // Times as on usual machines would make it look for a leader all the time.
        "--heartbeat-interval 1000 --election-timeout 10000",
      ];
      await first.start(`exec etcd ${words.join(" ")}`, "/run/pair/etcd.log");
      const ask = `exec 3<>/dev/tcp/203.0.113.1/2379; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; grep -q '"true"' <&3`;
      await second.until("etcd answers", () => second.succeeds(ask));
    },
  },
  {
    title: "one founds a cluster, the other joins it",
    async run(hosts) {
      for (const host of hosts) await host.startNetd();
      for (const host of hosts)
        await host.text(`netctl cluster ${host.number === 1 ? "init" : "join"} --etcd ${etcd}`);
      for (const host of hosts)
        await host.until("both are live", async () => {
          const listed = await host.json("netctl cluster host ls --json");
          return listed.length === 2 && listed.every(({ isLive }) => isLive);
        });
    },
  },
  {
    title: "what one creates, the other has; containers find each other by name",
    async run(hosts) {
      for (const [at, { name, options }] of networks.entries()) {
        await hosts[at % 2].text(`netctl network create -d overlay-vxlan --ipv6 ${options} ${name}`);
        for (const host of hosts)
          await host.until(`it knows ${name}`, async () =>
            (await host.json("netctl network ls --json")).some((network) => network.name === name),
          );
      }
      for (const network of networks) for (const host of hosts) await createSandbox(host, network);
      await untilReached(hosts);
    },
  },
];

/** For each network. */
const carries = networks.flatMap((network) => [
  {
    title: `${network.name}: pings by name, both ways, IPv4 and IPv6`,
    async run(hosts) {
      for (const { from, near, far } of ways(hosts, network))
        for (const family of [4, 6])
          expect(
            await pings(from, near, far, `-${family} -c3 -i0.3 -W30`),
            `${near} does not reach ${far} by IPv${family}`,
          );
    },
  },
  {
    title: `${network.name}: the largest packet gets there uncut, and no larger one`,
    async run(hosts) {
      for (const { from, to, near, far } of ways(hosts, network)) {
        const { mtu } = await interfaceOf(from, near);
        expect(mtu === network.mtu, `${near} has MTU ${mtu}, not ${network.mtu}`);
        const { v4, v6 } = await interfaceOf(to, far);
        for (const [target, headers] of [
          [v4, 28],
          [v6, 48],
        ]) {
          const send = (bytes) => pings(from, near, target, `-M do -c2 -i0.3 -W30 -s ${bytes - headers}`);
          expect(await send(mtu), `${mtu} bytes from ${near} do not get to ${target}`);
          expect(!(await send(mtu + 1)), `${mtu + 1} bytes from ${near} are sent`);
        }
      }
    },
  },
  {
    title: `${network.name}: a megabyte by TCP, both ways, IPv4 and IPv6`,
    async run(hosts) {
      for (const { from, to } of ways(hosts, network))
        for (const family of [4, 6]) await send(network, from, to, family);
    },
  },
]);

const looks = [
  {
    title: "the doctor finds the ways between the hosts in order",
    async run(hosts) {
      for (const host of hosts) {
        const said = await host.said("netctl doctor overlay encryption own-rules netd forwarding --json");
        const { findings } = JSON.parse(said);
        expectNone(
          findings.map(({ id, evidence }) => `${id} ${evidence}`),
          host.name,
        );
      }
    },
  },
  {
    title: "records, kernel and engine agree",
    async run(hosts) {
      for (const host of hosts)
        for (const { name } of networks) {
          const text = await host.text(`netctl inspect ${name}`);
          expectNone(
            text.split("\n").filter((line) => /─ !|lacks/.test(line)),
            host.name,
          );
        }
    },
  },
  {
    title: "it is the kernel's WireGuard",
    async run(hosts) {
      for (const host of hosts) {
        const devices = await devicesOf(host);
        expect(devices.length === 1, `${host.name} has WireGuard devices ${devices}`);
        expect(!(await host.succeeds("pgrep -f wireguard-go")), `a wireguard-go runs on ${host.name}`);
        expect(await host.succeeds("grep -q ^wireguard /proc/modules"), "the module is not loaded");
        const [, [, , endpoint, allowed, handshake, received, sent] = []] = (
          await host.text(`wg show ${devices[0]} dump`)
        )
          .split("\n")
          .map((line) => line.split("\t"));
        expect(endpoint === `203.0.113.${3 - host.number}:51842`, `the peer is at ${endpoint}`);
        expect(/^fe80:.*\/128$/.test(allowed), `the peer may send from ${allowed}`);
        expect(Number(handshake) > 0, "hands were never shaken");
        expect(Number(received) > 1_000_000 && Number(sent) > 1_000_000, `${received} and ${sent} bytes`);
      }
    },
  },
  {
    title: "the wire shows what is not encrypted, and WireGuard alone of what is",
    async run(hosts) {
      const traces = await tracesOf(hosts);
      for (const host of hosts) {
        const clear = await overhear(host, async () => {
          for (const network of networks.filter(({ isEncrypted }) => !isEncrypted))
            for (const { from, near, far } of ways(hosts, network))
              expect(await pings(from, near, far), `${near} does not reach ${far}`);
        });
        expect(
          clear.includes(Buffer.from(secret)),
          "What is not encrypted can't be seen: the capture says nothing",
        );
        expect(clear.matching("udp port 4789").length >= 16, "Not all VXLAN was captured");
        const hidden = await overhear(host, async () => {
          for (const network of encrypted)
            for (const { from, to, near, far } of ways(hosts, network)) {
              expect(await pings(from, near, far), `${near} does not reach ${far}`);
              await send(network, from, to, 4);
            }
        });
        expectNone(hidden.leaks(traces), `On the wire of ${host.name}`);
        expect(
          hidden.matching("udp portrange 51842-51843").length > 3000,
          "Not all of WireGuard was captured",
        );
      }
    },
  },
];

const flowing = "/run/pair/flow";

/** Pings of all encrypted networks, both ways, while something is done. @throws {Error} if one was lost */
async function losingNone(hosts, action) {
  const flows = [];
  for (const network of encrypted)
    for (const { from, to, near, far } of ways(hosts, network)) {
      const { v4, v6 } = await interfaceOf(to, far);
      const hex = Buffer.from(secret).toString("hex");
      for (const [family, target] of Object.entries({ v4, v6 })) {
        const log = `${flowing}-${near}-${family}`;
        const words = from.inside(near, `ping -i 0.2 -p ${hex} ${target}`);
        flows.push({ from, log, pid: await from.start(words, log) });
      }
    }
  const answered = async ({ from, log }) => Number(await from.said(`grep -c 'bytes from' ${log}`));
  for (const flow of flows) await flow.from.until("pings flow", async () => (await answered(flow)) > 10);
  try {
    await action();
    for (const flow of flows) {
      const before = await answered(flow);
      await flow.from.until("pings flow on", async () => (await answered(flow)) > before + 20);
    }
  } finally {
    for (const { from, pid } of flows) await from.end(pid, "INT");
  }
  let sent = 0;
  for (const { from, log } of flows) {
    const summary = await from.text(`grep 'packets transmitted' ${log}`);
    const [, all, back] = /(\d+) packets transmitted, (\d+) received/.exec(summary) ?? [];
    sent += Number(all);
    // The last one may have been under way.
    expect(Number(all) - Number(back) <= 1, `${log} on ${from.name}: ${summary}`);
  }
  return `${sent} pings, none lost`;
}

const rotation = {
  title: "keys are replaced on both at once, while packets flow",
  async run(hosts) {
    const traces = await tracesOf(hosts);
    const before = await Promise.all(hosts.map(publicKeysOf));
    let note;
    const captured = await overhear(hosts[0], async () => {
      note = await losingNone(hosts, async () => {
        for (const host of hosts) await host.text("netctl cluster rotate-key");
        for (const [at, host] of hosts.entries()) {
          await host.until("the new key alone is told", async () => {
            const now = await publicKeysOf(host);
            return now.length === 1 && now[0] !== before[at][0];
          });
          await host.until("the old key's device is gone", async () => (await devicesOf(host)).length === 1);
          const key = await host.text(`wg show ${(await devicesOf(host))[0]} public-key`);
          expect(key !== before[at][0], `${host.name} has its old key`);
        }
      });
    });
    expectNone(captured.leaks(traces), "On the wire");
    await untilReached(hosts);
    return note;
  },
};

const withoutNetd = {
  title: "packets flow on while netd is killed and started, on both",
  async run(hosts) {
    const before = await Promise.all(hosts.map(devicesOf));
    const note = await losingNone(hosts, async () => {
      for (const host of hosts) await host.killNetd();
      for (const host of hosts) await host.startNetd();
      for (const host of hosts)
        await host.until("it is connected", async () => {
          return (await statusOf(host)).agent?.connected === true;
        });
    });
    const after = await Promise.all(hosts.map(devicesOf));
    expect(after.join() === before.join(), `devices ${before.join()} have become ${after.join()}`);
    return note;
  },
};

/** Each with netd away on the first host, which would mend it. */
const failing = [
  {
    title: "the peer's key is taken away: nothing gets out, nothing in the clear",
    async spoil([first]) {
      const [device] = await devicesOf(first);
      const peer = await first.text(`wg show ${device} peers`);
      await first.text(`wg set ${device} peer ${peer} remove`);
    },
  },
  {
    title: "the WireGuard device is down: nothing gets out, nothing in the clear",
    async spoil([first]) {
      const [device] = await devicesOf(first);
      await first.text(`ip link set ${device} down`);
    },
  },
  {
    title: "there is neither WireGuard device nor filter: nothing gets out, nothing in the clear",
    async spoil([first]) {
      const [device] = await devicesOf(first);
      await first.text(`nft flush ruleset; ip link delete ${device}`);
    },
  },
  {
    title: "another key than the one told: nothing gets out, nothing in the clear",
    async spoil([first]) {
      const [device] = await devicesOf(first);
      await first.text(`wg genkey > /run/pair/other-key; wg set ${device} private-key /run/pair/other-key`);
    },
  },
].map((way) => ({
  title: way.title,
  async run(hosts) {
    const [first, second] = hosts;
    await untilReached(hosts, encrypted);
    // While netd runs, who knows.
    const traces = await tracesOf(hosts);
    await first.killNetd();
    try {
      await way.spoil(hosts);
      await staysSilent(hosts, traces);
      // Nor does what the other one has to say.
      const captured = await overhear(second, async () => {
        for (const network of encrypted)
          await pings(second, nameOf(network, second), nameOf(network, first), "-c2 -i0.3 -W3");
      });
      expectNone(captured.leaks(traces), `On the wire of ${second.name}`);
    } finally {
      await first.startNetd();
    }
    await untilReached(hosts, encrypted);
  },
}));

/** Echo requests that a namespace has got, by its /proc/net/snmp. */
function echoes(text) {
  const [names = "", values = ""] = text.split("\n").filter((line) => line.startsWith("Icmp:"));
  return Number(values.split(" ")[names.split(" ").indexOf("InEchos")]);
}

const forgery = {
  title: "packets in the clear for an encrypted network are not taken, not even without any rule",
  async run(hosts) {
    const [first, second] = hosts;
    const known = (await statusOf(first)).agent.networks;
    await first.killNetd();
    try {
      await first.text("nft flush ruleset");
      const [plain, hidden] = await Promise.all(
        ["plain", "secret"].map(async (name) => {
          const { v4: target } = await interfaceOf(first, `${name}1`);
          const { vni, tunnels } = known.find((each) => each.name === name);
          const [{ address: mac }] = await first.json(`ip -j link show ${tunnels[0]}`);
          return { sandbox: `${name}1`, target, vni, mac };
        }),
      );
      /** Pings that get to the container, of three that the second host makes up. */
      const forged = async ({ sandbox, vni, mac, target }, to) => {
        const counted = async () => echoes(await first.text(first.inside(sandbox, "cat /proc/net/snmp")));
        const before = await counted();
        const packet = vxlanPing({ vni, mac, to: target }).toString("base64");
        await second.text(`echo ${packet} | base64 -d > /run/pair/forged
          for each in 1 2 3; do cat /run/pair/forged > /dev/udp/${to}/4789; done
          ping -c3 -i0.3 -W30 ${to}`);
        return (await counted()) - before;
      };
      // Without rules a network that is not encrypted takes them: so they were forged well.
      expect((await forged(plain, "203.0.113.1")) === 3, "The pings were not forged well");
      for (const to of ["203.0.113.1", "2001:db8:ff::1"])
        expect((await forged(hidden, to)) === 0, `${to} takes them`);
    } finally {
      await first.startNetd();
    }
    await untilReached(hosts);
  },
};

const ending = {
  title: "nothing stays when containers and networks are gone",
  async run(hosts) {
    for (const host of hosts)
      await host.text(`netctl sandbox rm ${networks.map((network) => nameOf(network, host)).join(" ")}`);
    await hosts[0].text(`netctl network rm ${networks.map(({ name }) => name).join(" ")}`);
    for (const host of hosts) {
      const links = async () =>
        (await host.json("ip -j link show"))
          .map(({ ifname }) => ifname)
          .filter((name) => !/^(lo|eth0)$/.test(name));
      await host.until("its links are gone", async () => (await links()).length === 0);
      expectNone((await statusOf(host)).problems, host.name);
    }
  },
};

export const checks = [...carries, ...looks, rotation, withoutNetd, ...failing, forgery, ending];
