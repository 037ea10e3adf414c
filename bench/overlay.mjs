// npm run bench:overlay: what a network between two hosts costs packets, beside a kernel VXLAN made by hand on links like
// ours, and what encryption costs. docs/performance.md has the figures.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compileFlow } from "./published/flow.mjs";
import { writePage } from "./report.mjs";
import { percentile } from "./statistics.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "60" },
    ms: { type: "string", default: "60" },
    bin: { type: "string", default: join(root, "dist/bin") },
    write: { type: "boolean", default: false },
  },
});
const bin = resolve(options.bin);
const rounds = Number(options.rounds);
const etcd = "http://203.0.113.254:2379";
const directory = mkdtempSync("/var/tmp/netctl-bench-overlay-");
const namespaces = [];
const children = [];

function inside(path, command, args, more = {}) {
  return execFileSync("nsenter", [`--net=${path}`, command, ...args], { encoding: "utf8", ...more });
}
const script = (path, text) => inside(path, "sh", ["-ec", text], { stdio: ["ignore", "pipe", "inherit"] });

function namespace(hint) {
  const name = `nbo${process.pid}${hint}`;
  execFileSync("ip", ["netns", "add", name]);
  namespaces.push(name);
  script(`/run/netns/${name}`, "ip link set lo up");
  return { name, path: `/run/netns/${name}` };
}

function start(path, command, args, environment = process.env) {
  const child = spawn("nsenter", [`--net=${path}`, command, ...args], { stdio: "ignore", env: environment });
  children.push(child);
  return child;
}

async function until(what, isSo) {
  for (let attempt = 0; attempt < 600; attempt++) {
    if (isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`Waited in vain until ${what}`);
}
const succeeds = (action) => {
  try {
    action();
    return true;
  } catch {
    return false;
  }
};

/** Two hosts on a wire, which is the bridge of one more namespace. */
function makeHosts(hint) {
  const wire = namespace(`${hint}w`);
  script(
    wire.path,
    "ip link add wire type bridge; ip link set wire up; ip address add 203.0.113.254/24 dev wire",
  );
  return [wire, ...[1, 2].map((number) => addHost(wire, number, namespace(`${hint}h${number}`)))];
}

function addHost(wire, number, host) {
  script(
    wire.path,
    `ip link add p${number} type veth peer name up0 netns ${host.name}; ip link set p${number} master wire up`,
  );
  script(
    host.path,
    `sysctl -qw net.ipv4.ip_forward=1; ip link set up0 up; ip address add 203.0.113.${number}/24 dev up0
     ip route add default via 203.0.113.254`,
  );
  return host;
}

/**
 * Bridge, veth pair, tunnel, one route: what ours has, and nothing besides. With `masquerade`, also the one rule without
 * which containers have no way to the world; with it connections are tracked.
 */
function byHand(hint, name, masquerade) {
  const [, ...hosts] = makeHosts(hint);
  const ends = hosts.map((host, index) => {
    const [own, other] = [index + 1, 2 - index];
    const container = namespace(`${hint}c${own}`);
    script(
      host.path,
      `ip link add br0 type bridge; ip link set br0 mtu 1450 up; ip address add 10.66.${own}.1/24 dev br0
       ip link add v0 mtu 1450 master br0 type veth peer name eth0 mtu 1450 netns ${container.name}; ip link set v0 up
       ip link add vx0 address 02:00:00:00:00:0${own} mtu 1450 type vxlan id 9 dstport 4789 local 203.0.113.${own} dev up0 nolearning
       ip link set vx0 up
       bridge fdb add 02:00:00:00:00:0${other} dev vx0 dst 203.0.113.${other}
       ip neigh add 10.66.${other}.0 lladdr 02:00:00:00:00:0${other} dev vx0 nud permanent
       ip route add 10.66.${other}.0/24 via 10.66.${other}.0 dev vx0 onlink`,
    );
    script(
      container.path,
      `ip link set eth0 up; ip address add 10.66.${own}.2/24 dev eth0; ip route add default via 10.66.${own}.1`,
    );
    if (masquerade)
      script(
        host.path,
        `nft add table ip nat; nft add chain ip nat post '{ type nat hook postrouting priority 100; }'
         nft add rule ip nat post ip saddr 10.66.0.0/16 ip daddr != 10.66.0.0/16 masquerade`,
      );
    return { path: container.path, address: `10.66.${own}.2` };
  });
  return { name, from: ends[0].path, to: ends[1] };
}

async function byUs() {
  const [wire, ...hosts] = makeHosts("o");
  const words = ["--data-dir", join(directory, "etcd"), "--listen-client-urls", etcd, "--log-level", "error"];
  words.push(
    "--advertise-client-urls",
    etcd,
    "--listen-peer-urls",
    "http://127.0.0.1:2380",
    "--logger",
    "zap",
  );
  start(wire.path, "etcd", words);
  const at = (number, ...parts) => join(directory, `h${number}`, ...parts);
  const environment = (number) => ({
    PATH: process.env.PATH,
    NETCTL_STATE_DIR: at(number, "state"),
    NETCTL_RUN_DIR: at(number, "run"),
    NETCTL_CONF_DIR: at(number, "conf"),
    NETCTL_LOG_FILE: at(number, "netd.log"),
    NETCTL_BIN_DIR: bin,
    NETCTL_NETD: "never",
    NETCTL_NETD_CGROUP: "none",
  });
  const netctl = (number, ...args) =>
    inside(hosts[number - 1].path, join(bin, "netctl"), args, {
      env: environment(number),
      stdio: ["ignore", "pipe", "pipe"],
    });
  for (const number of [1, 2]) {
    mkdirSync(at(number, "run"), { recursive: true });
    start(hosts[number - 1].path, process.execPath, [join(root, "dist/lib/netd.cjs")], environment(number));
    const verb = number === 1 ? "init" : "join";
    await until("etcd answers", () => succeeds(() => netctl(number, "cluster", verb, "--etcd", etcd)));
  }
  const subjects = [];
  for (const [network, name, ...flags] of [
    ["plain", "ours"],
    ["flat", "ours, mode=l2", "-o", "mode=l2"],
    ["secret", "ours, encrypted", "-o", "encrypted"],
  ]) {
    netctl(1, "network", "create", "-d", "overlay-vxlan", ...flags, network);
    await until("both have it", () => netctl(2, "network", "ls").includes(` ${network} `));
    const ends = [1, 2].map((number) => {
      const made = JSON.parse(
        netctl(number, "sandbox", "create", `${network}${number}`, "--network", network, "--json"),
      );
      const [address] = made.attachments.flatMap((each) => each.addresses);
      return { path: at(number, "run/netns", `${network}${number}`), address: address.split("/")[0] };
    });
    const [from, to] = ends;
    await until("they reach each other", () =>
      succeeds(() => inside(from.path, "ping", ["-c1", "-W1", to.address], { stdio: "ignore" })),
    );
    subjects.push({ name, from: from.path, to });
  }
  return subjects;
}

const kinds = [
  ["stream", "one TCP stream, Gbit/s"],
  ["packets", "datagrams of 64 bytes that arrive, a second"],
  ["latency", "a ping one way, ns"],
];

/**
 * Of many short slices: the rate that a tenth of them reach, the time that a tenth stay below. Whatever else the machine
 * does only takes away.
 */
const best = (kind, values) => percentile(values, kind === "latency" ? 0.1 : 0.9);

async function main() {
  if (process.getuid() !== 0) throw new Error("Root is needed to make network namespaces");
  const machine = `Linux ${release()}, ${cpus().length} x ${/model name\s*:\s*(.*)/.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch}, load ${loadavg()[0].toFixed(1)} at the start`;
  const flow = compileFlow(root);
  const subjects = [
    byHand("n", "kernel VXLAN by hand", false),
    byHand("m", "by hand, masquerading", true),
    ...(await byUs()),
  ];
  for (const { to } of subjects) {
    const child = spawn("nsenter", [`--net=${to.path}`, flow, "server", "80"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(child);
    await new Promise((resolve) => child.stdout.once("data", resolve));
  }
  const values = subjects.map(() => new Map(kinds.map(([kind]) => [kind, []])));
  let order = subjects.map((_, index) => index);
  // The first round warms up.
  for (let round = 0; round <= rounds; round++) {
    for (const [kind] of kinds) {
      for (const index of order) {
        const subject = subjects[index];
        const value = Number(inside(subject.from, flow, [kind, subject.to.address, "80", options.ms]));
        if (round > 0) values[index].get(kind).push(value);
      }
    }
    order = [...order.slice(1), order[0]];
    if (round % 10 === 0) console.log(`overlay: round ${round} of ${rounds}`);
  }
  const figure = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(3));
  const rows = kinds.map(([kind, title]) => {
    const [bare, hand, ...ours] = values.map((each) => best(kind, each.get(kind)));
    const cells = ours.map((each) => `${figure(each)} (${((100 * each) / hand).toFixed(1)} %)`);
    return [title, figure(bare), figure(hand), ...cells];
  });
  const head = ["between containers of two hosts", ...subjects.map(({ name }) => name)];
  const table = [head, head.map((_, index) => (index === 0 ? "---" : "--:")), ...rows]
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n");
  const text = `\`npm run bench:overlay\`, ${new Date().toISOString().slice(0, 10)}\\\n${machine}\n\n${table}`;
  console.log(`\n${text}`);
  if (options.write) writePage(join(root, "docs/performance.md"), text, "overlay");
}

function cleanUp() {
  for (const child of children) child.kill("SIGKILL");
  for (const number of [1, 2])
    spawnSync("sh", ["-c", `for each in ${directory}/h${number}/run/netns/*; do umount "$each"; done`]);
  for (const name of namespaces) {
    // A process that is a WireGuard device keeps its namespace, and ends with the device.
    const devices = "for each in /sys/class/net/nx*; do [ -e $each ] && ip link delete ${each##*/}; done";
    spawnSync("ip", ["netns", "exec", name, "sh", "-c", devices]);
    spawnSync("ip", ["netns", "del", name]);
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
}

main()
  .catch((error) => {
    console.error(error.stack);
    process.exitCode = 1;
  })
  .finally(cleanUp);
