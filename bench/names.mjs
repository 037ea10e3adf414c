// npm run bench:names: netd's resolver beside others, each asked by dnsperf from inside one container's namespace, one
// after the other in one run. docs/dns-performance.md says what the figures mean.
//   --seconds N   for each measurement (4)   --containers N   for the memory (1000; 0 leaves it out)   --write

import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
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
    write: { type: "boolean", default: false },
  },
});
const seconds = Number(options.seconds);
const containers = Number(options.containers);
const bin = join(root, "dist/bin");
const scratch = mkdtempSync(join(tmpdir(), "netctl-names-"));
const tag = `netctl-names-${process.pid}`;
const host = `${tag}-host`;
const inside = `${tag}-0`;
const at = (...parts) => join(scratch, ...parts);
const namesCount = 1000;
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
      const answer = within(inside, "dig", ["+short", "+tries=1", "+time=1", `@${server}`, "name1.bench"]);
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
  const out = within(inside, "dnsperf", ["-s", server, "-d", file, "-l", String(seconds), ...extra]);
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
  const out = within(inside, "dnsperf", args);
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
  if (forwards) within(inside, "dnsperf", ["-s", server, "-d", at("external"), "-n", "2", "-q", "50"]);
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

/** Each server has an address of its own; the names are the same. */
async function peers(rows) {
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
  rows.push(await measure("dnsmasq", "127.0.0.21", dnsmasq.pid));
  dnsmasq.kill("SIGKILL");

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
  rows.push(await measure("unbound", "127.0.0.22", unbound.pid));
  unbound.kill("SIGKILL");

  const aardvark = ["/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"].find((file) =>
    existsSync(file),
  );
  if (!aardvark) return;
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
    rows.push(await measure("aardvark-dns", "127.0.0.23", pid, false));
  } finally {
    process.kill(pid, "SIGKILL");
  }
}

function netdPid() {
  const [file] = readdirSync(at("run")).filter((name) => name.endsWith(".lock") && name.startsWith("netd-"));
  return Number(readFileSync(at("run", file), "utf8"));
}

async function main() {
  for (const folder of ["state", "run"]) mkdirSync(at(folder));
  writeQueries();
  writeFileSync(at("resolv.conf"), "nameserver 10.9.0.1\n");
  makeNamespace(host);
  makeNamespace(inside);
  run("ip", ["-n", host, "addr", "add", "10.9.0.1/32", "dev", "lo"]);
  const outside = start(host, "dnsmasq", [
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
  const empty = residentMiB(pid);
  for (const [index, name] of names.entries()) {
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
  const rows = [await measure("netctl", "127.0.0.11", pid)];
  await peers(rows);

  let memory;
  if (containers > 0) {
    const before = residentMiB(pid);
    for (let index = 1; index <= containers; index++) makeNamespace(`${tag}-${index}`);
    const started = performance.now();
    for (let index = 1; index <= containers; index++) attach(index, [`c${index}`], plainResult(index));
    const each = (performance.now() - started) / containers;
    within(inside, "dnsperf", ["-s", "127.0.0.11", "-d", at("local"), "-l", "1"]);
    memory = { empty, before, after: residentMiB(pid), each };
  }
  outside.kill("SIGKILL");
  report(rows, memory);
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
          `netd with ${containers} containers more: ${memory.before.toFixed(0)} MiB before, ${memory.after.toFixed(0)} after; ${memory.each.toFixed(1)} ms for each ADD of dns, the start of two processes included.`,
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
