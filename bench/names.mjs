// npm run bench:names: netd's resolver beside others, each asked by dnsperf from inside one container's namespace, one
// after the other in one run. docs/dns-performance.md says what the figures mean.
//   --seconds N   for each measurement (4)   --containers N   for the memory (1000; 0 leaves it out)   --write
//   --names N     of containers (1000)       --only netctl,unbound   leaves the others out (none: all)

import { spawn, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "4" },
    containers: { type: "string", default: "1000" },
    names: { type: "string", default: "1000" },
    only: { type: "string", default: "netctl,dnsmasq,unbound,aardvark-dns,dockerd" },
    write: { type: "boolean", default: false },
  },
});
const subjects = new Set(options.only.split(","));
for (const name of subjects) {
  if (["netctl", "dnsmasq", "unbound", "aardvark-dns", "dockerd", "none"].includes(name)) continue;
  console.error(`bench:names: --only: nobody is called "${name}"`);
  process.exit(2);
}
const seconds = Number(options.seconds);
const containers = Number(options.containers);
const bin = join(root, "dist/bin");
const scratch = mkdtempSync(join(tmpdir(), "netctl-names-"));
const tag = `netctl-names-${process.pid}`;
const host = `${tag}-host`;
const inside = `${tag}-0`;
const at = (...parts) => join(scratch, ...parts);
const namesCount = Number(options.names);
const fixedLoad = 20_000;
const children = [];
/** Those that go into the background by themselves. */
const forked = [];
const namespaces = [];

const environment = {
  PATH: process.env.PATH,
  NETCTL_STATE_DIR: at("state"),
  NETCTL_RUN_DIR: at("run"),
  NETCTL_BIN_DIR: bin,
  NETCTL_RESOLV_CONF: at("resolv.conf"),
  NETCTL_LOG_FILE: at("netd.log"),
  NETCTL_NETD_CGROUP: "none",
  CNI_PATH: bin,
};

function run(command, args, input) {
  const settings = { encoding: "utf8", env: environment, input, maxBuffer: 1 << 30 };
  const { status, stdout, stderr, error } = spawnSync(command, args, settings);
  if (error || status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error ?? stderr}${stdout}`);
  return stdout;
}

const within = (namespace, command, args, input) =>
  run("nsenter", [`--net=/run/netns/${namespace}`, "--", command, ...args], input);
/** How one gets to where the questions are asked: into the container of the bench's network. */
let asking = ["nsenter", `--net=/run/netns/${inside}`, "--"];
const ask = (command, args) => run(asking[0], [...asking.slice(1), command, ...args]);

function makeNamespace(name) {
  run("ip", ["netns", "add", name]);
  namespaces.push(name);
  run("ip", ["-n", name, "link", "set", "lo", "up"]);
}

function verb(command, plugin, { id, namespace, config, ifName = "eth0" }) {
  const words = [`CNI_COMMAND=${command}`, `CNI_CONTAINERID=${id}`, `CNI_IFNAME=${ifName}`];
  const all = [...words, `CNI_NETNS=/run/netns/${namespace}`, join(bin, plugin)];
  return within(host, "env", all, JSON.stringify(config));
}

/** A container of the bench's network, with an address that nobody uses where it has no bridge. */
function attach(index, names, prevResult) {
  const namespace = `${tag}-${index}`;
  const config = {
    cniVersion: "1.1.0",
    name: "bench",
    type: "dns",
    runtimeConfig: { aliases: { bench: names } },
    prevResult,
  };
  return verb("ADD", "dns", { id: `container${index}`, namespace, config });
}

const address = (index) => `10.200.${index >> 8}.${index & 255}`;
const plainResult = (index) => ({
  cniVersion: "1.1.0",
  interfaces: [{ name: "eth0", sandbox: `/run/netns/${tag}-${index}` }],
  ips: [{ interface: 0, address: `${address(index)}/16` }],
});

function start(namespace, command, args) {
  const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", command, ...args], {
    stdio: "ignore",
    env: environment,
    // A session of its own, as netd and every other service has: the kernel shares the CPU among sessions.
    detached: true,
  });
  children.push(child);
  return child;
}

const ticks = (pid) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return Number(fields[11]) + Number(fields[12]);
};
const residentMiB = (pid) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;

/** Asks until the server answers. */
async function untilReady(server) {
  for (let tries = 0; tries < 200; tries++) {
    try {
      const answer = ask("dig", ["+short", "+tries=1", "+time=1", `@${server}`, "name1.bench"]);
      if (answer.includes("10.")) return;
    } catch {
      // It is not there yet.
    }
    await sleep(50);
  }
  throw new Error(`nobody answers at ${server}`);
}

function perf(server, file, pid, extra) {
  const before = ticks(pid);
  const out = ask("dnsperf", ["-s", server, "-d", file, "-l", String(seconds), ...extra]);
  const used = (ticks(pid) - before) * 10_000;
  const number = (pattern) => Number(pattern.exec(out)?.[1] ?? NaN);
  const completed = number(/Queries completed:\s+(\d+)/);
  return {
    rate: number(/Queries per second:\s+([\d.]+)/),
    lost: number(/Queries lost:\s+(\d+)/),
    bad: /SERVFAIL|NXDOMAIN|REFUSED/.test(/Response codes:(.*)/.exec(out)?.[1] ?? ""),
    microseconds: used / completed,
  };
}

/** The latency of each query at a fixed load, in microseconds. */
function latencies(server, file, load) {
  const args = ["-s", server, "-d", file, "-l", String(Math.min(seconds, 3)), "-Q", String(load), "-v"];
  const out = ask("dnsperf", args);
  const all = [...out.matchAll(/^> \S+ \S+ \S+ ([\d.]+)$/gm)].map(([, value]) => Number(value) * 1e6);
  all.sort((a, b) => a - b);
  const of = (share) => Math.round(all[Math.min(Math.floor(all.length * share), all.length - 1)] ?? NaN);
  return { p50: of(0.5), p99: of(0.99) };
}

const burst = ["-c", "8", "-q", "200"];

/** @param forwards false for a server that can only ask whom /etc/resolv.conf names */
async function measure(title, server, pid, forwards = true) {
  await untilReady(server);
  console.error(`${title} …`);
  // Once through everything first: what is measured is kept answers, where a server keeps any.
  if (forwards) ask("dnsperf", ["-s", server, "-d", at("external"), "-n", "2", "-q", "50"]);
  perf(server, at("local"), pid, burst);
  const local = perf(server, at("local"), pid, burst);
  const none = { rate: Number.NaN, lost: 0, bad: false, microseconds: Number.NaN };
  const cached = forwards ? perf(server, at("external"), pid, burst) : none;
  const missed = forwards ? perf(server, at("unique"), pid, ["-n", "1", "-q", "100"]) : none;
  const half = latencies(server, at("local"), Math.min(Math.round(local.rate / 2), 100_000));
  return {
    title,
    local,
    cached,
    missed,
    fixed: latencies(server, at("local"), fixedLoad),
    half,
    memory: residentMiB(pid),
  };
}

function writeQueries() {
  const names = Array.from({ length: namesCount }, (_, index) => `name${index + 1}.bench A`);
  writeFileSync(at("local"), `${names.join("\n")}\n`);
  writeFileSync(
    at("external"),
    Array.from({ length: 1000 }, (_, index) => `host${index}.ext.test A\n`).join(""),
  );
  writeFileSync(
    at("unique"),
    Array.from({ length: 100_000 }, (_, index) => `u${index}-${Date.now()}.ext.test A\n`).join(""),
  );
  const line = (index) => `${address(index + 1)} name${index + 1}.bench name${index + 1}`;
  writeFileSync(at("hosts"), `${Array.from({ length: namesCount }, (_, index) => line(index)).join("\n")}\n`);
}

/** What all questions that are not local go to in the end. */
const startOutside = (namespace) =>
  start(namespace, "dnsmasq", [
    "--no-daemon",
    "--conf-file=/dev/null",
    "--no-resolv",
    "--no-hosts",
    "--address=/ext.test/192.0.2.1",
    "--local-ttl=300",
    "--listen-address=10.9.0.1",
    "--bind-interfaces",
    "--user=root",
  ]);

async function measureDnsmasq() {
  const dnsmasq = start(inside, "dnsmasq", [
    "--no-daemon",
    "--conf-file=/dev/null",
    "--no-resolv",
    "--no-hosts",
    `--addn-hosts=${at("hosts")}`,
    "--server=10.9.0.1",
    "--listen-address=127.0.0.21",
    "--bind-interfaces",
    "--cache-size=10000",
    "--local-ttl=5",
    "--user=root",
    "--dns-forward-max=1000",
  ]);
  const row = await measure("dnsmasq", "127.0.0.21", dnsmasq.pid);
  dnsmasq.kill("SIGKILL");
  return row;
}

async function measureUnbound() {
  const localData = Array.from(
    { length: namesCount },
    (_, index) => `  local-data: "name${index + 1}.bench. 5 IN A ${address(index + 1)}"`,
  );
  writeFileSync(
    at("unbound.conf"),
    [
      "server:",
      "  interface: 127.0.0.22",
      "  do-daemonize: no",
      '  username: ""',
      '  chroot: ""',
      `  directory: "${scratch}"`,
      `  pidfile: "${at("unbound.pid")}"`,
      "  use-syslog: no",
      "  num-threads: 1",
      '  module-config: "iterator"',
      "  access-control: 0.0.0.0/0 allow",
      "  do-not-query-localhost: no",
      '  local-zone: "bench." static',
      '  domain-insecure: "test."',
      '  local-zone: "test." nodefault',
      ...localData,
      "forward-zone:",
      '  name: "."',
      "  forward-addr: 10.9.0.1",
      "",
    ].join("\n"),
  );
  const unbound = start(inside, "unbound", ["-d", "-c", at("unbound.conf")]);
  const row = await measure("unbound", "127.0.0.22", unbound.pid);
  unbound.kill("SIGKILL");
  return row;
}

async function measureAardvark() {
  const aardvark = ["/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"].find((file) =>
    existsSync(file),
  );
  if (!aardvark) return undefined;
  mkdirSync(at("aardvark"));
  const lines = Array.from(
    { length: namesCount },
    (_, index) => `id${index} ${address(index + 1)}  name${index + 1},name${index + 1}.bench`,
  );
  writeFileSync(at("aardvark/bench"), `127.0.0.23\n${lines.join("\n")}\nself 127.0.0.23  self\n`);
  start(inside, aardvark, ["--config", at("aardvark"), "-p", "53", "run"]);
  await sleep(500);
  const pid = Number(readFileSync(at("aardvark/aardvark.pid"), "utf8"));
  forked.push(pid);
  try {
    return await measure("aardvark-dns", "127.0.0.23", pid, false);
  } finally {
    process.kill(pid, "SIGKILL");
  }
}

/**
 * dockerd as Debian has it (`docker.io`; not installed for this: that would start it on the machine). In namespaces of
 * its own for network, mounts and processes, with its own data: nothing of it is left when the first process ends. One
 * container of its network has all names, another asks.
 */
async function measureDockerd() {
  if (!existsSync("/usr/sbin/dockerd") || !existsSync("/usr/bin/docker") || !existsSync("/bin/busybox"))
    return undefined;
  const docker = `${tag}-docker`;
  const group = `/${docker}`;
  makeNamespace(docker);
  run("ip", ["-n", docker, "addr", "add", "10.9.0.1/32", "dev", "lo"]);
  startOutside(docker);
  const socket = `unix://${at("docker.sock")}`;
  const dockerd = [
    "exec /usr/sbin/dockerd --config-file=/dev/null --storage-driver=vfs --userland-proxy=false --dns=10.9.0.1",
    `--data-root=${at("docker")} --exec-root=/run/docker --pidfile=/run/docker.pid --host=${socket}`,
    `--exec-opt=native.cgroupdriver=cgroupfs --cgroup-parent=${group} --bip=10.210.0.1/24`,
  ].join(" ");
  const apart = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];
  writeFileSync(at("docker.json"), "{}");
  const script = `mount -t tmpfs tmpfs /run; ${dockerd.replace("/dev/null", at("docker.json"))} 2> ${at("dockerd.log")}`;
  const outer = start(docker, "unshare", [...apart, "sh", "-ec", script]);
  const client = (...args) => run("docker", ["--host", socket, ...args]);
  for (let tries = 0; !existsSync(at("docker.sock")); tries++) {
    if (tries === 600 || outer.exitCode !== null)
      throw new Error(`dockerd does not start: ${at("dockerd.log")}`);
    await sleep(50);
  }
  const pid = Number(readFileSync(`/proc/${outer.pid}/task/${outer.pid}/children`, "utf8"));
  mkdirSync(at("image/bin"), { recursive: true });
  copyFileSync("/bin/busybox", at("image/bin/busybox"));
  run("tar", ["-C", at("image"), "-cf", at("image.tar"), "."]);
  client("import", at("image.tar"), "bench");
  client("network", "create", "--subnet", "10.211.0.0/24", "bench");
  const container = (...extra) =>
    client(
      "run",
      "--detach",
      "--network",
      "bench",
      ...extra,
      "bench",
      "/bin/busybox",
      "sleep",
      "1000",
    ).trim();
  container(...Array.from({ length: namesCount }, (_, index) => `--network-alias=name${index + 1}`));
  const asker = client("inspect", "--format", "{{.State.Pid}}", container()).trim();
  const before = asking;
  // Numbers of processes are those of dockerd's namespace.
  asking = [
    "nsenter",
    "--target",
    String(pid),
    "--mount",
    "--pid",
    "--",
    "nsenter",
    "--target",
    asker,
    "--net",
    "--",
  ];
  try {
    return await measure("dockerd", "127.0.0.11", pid);
  } finally {
    asking = before;
    process.kill(pid, "SIGKILL");
    await new Promise((resolve) =>
      (outer.exitCode ?? outer.signalCode) ? resolve() : outer.once("exit", resolve),
    );
    removeGroups(docker);
  }
}

/** The cgroups that dockerd has made, of whatever version. */
function removeGroups(name) {
  const out = run("find", ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", `*/${name}*`]);
  for (const path of out.split("\n").filter(Boolean)) {
    try {
      rmdirSync(path);
    } catch {
      // Somebody is still ending in it.
    }
  }
}

function netdPid(folder = "run") {
  const [file] = readdirSync(at(folder)).filter((name) => name.endsWith(".lock") && name.startsWith("netd-"));
  return Number(readFileSync(at(folder, file), "utf8"));
}

async function main() {
  for (const folder of ["state", "run"]) mkdirSync(at(folder));
  writeQueries();
  writeFileSync(at("resolv.conf"), "nameserver 10.9.0.1\n");
  makeNamespace(host);
  makeNamespace(inside);
  run("ip", ["-n", host, "addr", "add", "10.9.0.1/32", "dev", "lo"]);
  const outside = startOutside(host);
  const bridge = {
    cniVersion: "1.1.0",
    name: "bench",
    type: "bridge",
    bridge: "br0",
    isDefaultGateway: true,
    ipam: { type: "host-local", ranges: [[{ subnet: "10.201.0.0/24" }]] },
  };
  const result = JSON.parse(verb("ADD", "bridge", { id: "container0", namespace: inside, config: bridge }));
  const names = Array.from({ length: namesCount }, (_, index) => `name${index + 1}.bench`);
  attach(0, ["asker"], result);
  const pid = netdPid();
  // One attachment for each name: the addresses are nobody's, the sockets one pair.
  for (const [index, name] of subjects.has("netctl") ? names.entries() : []) {
    const prevResult = {
      ...plainResult(index + 1),
      interfaces: [{ name: `n${index}`, sandbox: `/run/netns/${inside}` }],
    };
    const config = {
      cniVersion: "1.1.0",
      name: "bench",
      type: "dns",
      runtimeConfig: { aliases: { bench: [name] } },
      prevResult,
    };
    verb("ADD", "dns", { id: "container0", namespace: inside, config, ifName: `n${index}` });
  }
  const all = {
    netctl: () => measure("netctl", "127.0.0.11", pid),
    dnsmasq: measureDnsmasq,
    unbound: measureUnbound,
    "aardvark-dns": measureAardvark,
    dockerd: measureDockerd,
  };
  const rows = [];
  for (const [name, each] of Object.entries(all)) {
    const row = subjects.has(name) ? await each() : undefined;
    if (row) rows.push(row);
  }
  const memory = containers > 0 ? await measureMemory() : undefined;
  outside.kill("SIGKILL");
  report(rows, memory);
}

/** What netd takes for containers, each a namespace with a name and sockets of the resolver; then all are asked once. */
async function measureMemory() {
  environment.NETCTL_RUN_DIR = at("run-memory");
  environment.NETCTL_STATE_DIR = at("state-memory");
  for (const folder of ["run-memory", "state-memory"]) mkdirSync(at(folder));
  console.error(`${containers} containers …`);
  for (let index = 1; index <= containers + 1; index++) makeNamespace(`${tag}-${index}`);
  attach(containers + 1, ["first"], plainResult(containers + 1));
  const pid = netdPid("run-memory");
  const before = residentMiB(pid);
  const started = performance.now();
  for (let index = 1; index <= containers; index++) attach(index, [`c${index}`], plainResult(index));
  const each = (performance.now() - started) / containers;
  for (let index = 1; index <= containers; index++) {
    const name = `c${(index % containers) + 1}`;
    const answer = within(`${tag}-${index}`, "dig", ["+short", "@127.0.0.11", name]).trim();
    if (answer !== address((index % containers) + 1)) throw new Error(`${name}: ${answer}`);
  }
  const after = residentMiB(pid);
  process.kill(pid, "SIGKILL");
  // As a netd that has to take up all of them at its start.
  attach(containers + 1, ["first"], plainResult(containers + 1));
  const again = netdPid("run-memory");
  forked.push(again);
  return { before, after, restarted: residentMiB(again), each };
}

function report(rows, memory) {
  const k = (value) => (Number.isNaN(value) ? "" : `${Math.round(value / 1000)}k`);
  const us = (value) => (Number.isNaN(value) ? "" : value.toFixed(1));
  const head = [
    "",
    "local, q/s",
    "µs of CPU",
    "external, kept, q/s",
    "µs of CPU",
    "external, new, q/s",
    `p50 / p99 at ${k(fixedLoad)}, µs`,
    "p50 / p99 at half its peak*, µs",
    "MiB",
  ];
  const cells = rows.map(({ title, local, cached, missed, fixed, half, memory: mib }) => [
    title,
    k(local.rate),
    us(local.microseconds),
    k(cached.rate),
    us(cached.microseconds),
    k(missed.rate),
    `${fixed.p50} / ${fixed.p99}`,
    `${half.p50} / ${half.p99}`,
    mib.toFixed(0),
  ]);
  const lines = [
    `Node ${process.version}, Linux ${release()}, ${cpus().length} CPUs (${cpus()[0]?.model ?? "unknown"}), dnsperf on the same CPUs, ${seconds} s each.`,
    "",
    `| ${head.join(" | ")} |`,
    `|${head.map(() => "---").join("|")}|`,
    ...cells.map((row) => `| ${row.join(" | ")} |`),
    "",
    "\\* at most 100,000 queries a second",
    ...(memory
      ? [
          "",
          `netd with ${containers} containers, each of which has asked for another: ${memory.after.toFixed(0)} MiB, ${memory.before.toFixed(0)} with one, ${memory.restarted.toFixed(0)} after a restart; ${memory.each.toFixed(1)} ms for each ADD of dns, the start of two processes included.`,
        ]
      : []),
  ];
  for (const { title, local, cached, missed } of rows) {
    for (const [what, each] of Object.entries({ local, cached, missed }))
      if (each.lost > 0 || each.bad)
        lines.push(
          `${title}, ${what}: ${each.lost} queries lost${each.bad ? ", and answers that are none" : ""}`,
        );
  }
  console.log(lines.join("\n"));
  if (!options.write) return;
  const page = join(root, "docs/dns-performance.md");
  const [beginning, end] = ["<!-- bench:names -->", "<!-- /bench:names -->"];
  const text = readFileSync(page, "utf8");
  const [before, rest] = text.split(beginning);
  writeFileSync(page, `${before}${beginning}\n${lines.join("\n")}\n${end}${rest.split(end)[1]}`);
}

function cleanUp() {
  for (const child of children) child.kill("SIGKILL");
  for (const pid of [...forked, netdPid]) {
    try {
      process.kill(typeof pid === "function" ? pid() : pid, "SIGKILL");
    } catch {
      // It has ended, or was never started.
    }
  }
  for (const name of namespaces.reverse()) spawnSync("ip", ["netns", "delete", name]);
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    cleanUp();
    process.exit(1);
  });
}
try {
  await main();
} finally {
  cleanUp();
}
