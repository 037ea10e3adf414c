// How long netctl takes to look at a host with many containers: `npm run bench:tool -- [COUNT]` (1000). Beside it in the
// same run what nothing of ours can go below, an empty Node, and what one would type without netctl.
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writePage } from "./report.mjs";
import { median, percentile } from "./statistics.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const count = Number(process.argv[2] ?? 1000);
if (!Number.isSafeInteger(count) || count < 2 || count > 1800) {
  console.error(
    "Usage: node bench/tool.mjs [COUNT], 2 to 1800: two bridges with at most 900 containers each",
  );
  process.exit(2);
}
const runs = 7;
const directory = mkdtempSync(join(tmpdir(), "netctl-bench-tool-"));
const mark = randomBytes(3).toString("hex");
const host = `nb-${mark}`;
const bin = join(root, "dist/bin");
const environment = {
  PATH: process.env.PATH,
  CNI_PATH: bin,
  NETCTL_CONF_DIR: join(directory, "conf"),
  NETCTL_BIN_DIR: bin,
  NETCTL_STATE_DIR: join(directory, "state"),
  NETCTL_RUN_DIR: join(directory, "run"),
  NETCTL_NETD_CGROUP: "none",
};

function run(command, args, options = {}) {
  const ended = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 1 << 30,
    env: environment,
    ...options,
  });
  if (ended.error) throw ended.error;
  return ended;
}

function must(command, args, options) {
  const ended = run(command, args, options);
  if (ended.status !== 0)
    throw new Error(
      `${command} ${args.join(" ")} exited with ${ended.status}: ${ended.stderr}${ended.stdout}`,
    );
  return ended.stdout;
}

const inHost = (...words) => must("nsenter", [`--net=/run/netns/${host}`, ...words]);
const names = Array.from({ length: count }, (_, index) => `${host}-${index}`);

function conflist(index) {
  const name = `net${index}`;
  const bridge = {
    type: "bridge",
    bridge: `nb${index}`,
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: true,
    ipam: { type: "host-local", ranges: [[{ subnet: `10.${60 + index}.0.0/16` }]] },
  };
  return {
    cniVersion: "1.0.0",
    name,
    plugins: [bridge, { type: "portmap", capabilities: { portMappings: true } }],
  };
}

/** The chain as libcni would run it: what is measured does not depend on who asked. */
function attach(name, index) {
  const list = conflist(index % 2);
  const variables = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: randomBytes(32).toString("hex"),
    CNI_NETNS: `/run/netns/${name}`,
    CNI_IFNAME: "eth0",
  };
  let prevResult;
  for (const { capabilities, ...plugin } of list.plugins) {
    const config = { cniVersion: list.cniVersion, name: list.name, ...plugin };
    if (prevResult) config.prevResult = prevResult;
    if (capabilities)
      config.runtimeConfig = {
        portMappings: [{ hostPort: 20000 + index, containerPort: 80, protocol: "tcp" }],
      };
    const printed = must("nsenter", [`--net=/run/netns/${host}`, join(bin, plugin.type)], {
      input: JSON.stringify(config),
      env: { ...environment, ...variables },
    });
    prevResult = JSON.parse(printed);
  }
  cache(list, variables, prevResult);
}

/** As libcni keeps it for containerd and CRI-O. */
function cache(list, { CNI_CONTAINERID: containerId, CNI_IFNAME: ifName, CNI_NETNS: netns }, result) {
  const config = Buffer.from(JSON.stringify(list)).toString("base64");
  const results = join(environment.NETCTL_STATE_DIR, "results");
  mkdirSync(results, { recursive: true });
  const entry = { kind: "cniCacheV1", containerId, config, ifName, networkName: list.name, netns, result };
  writeFileSync(join(results, `${list.name}-${containerId}-${ifName}`), JSON.stringify(entry));
}

function time(title, command, args, isRight) {
  const times = [];
  for (let index = 0; index < runs; index++) {
    const start = process.hrtime.bigint();
    const { stdout, status, stderr } = run(command, args);
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
    if (!isRight({ stdout, status }))
      throw new Error(`${title}: exit code ${status}: ${stderr.slice(0, 500)}`);
  }
  return { title, median: median(times), p95: percentile(times, 0.95) };
}

function measure() {
  const netctl = (title, words, isRight) =>
    time(title, "nsenter", [`--net=/run/netns/${host}`, join(bin, "netctl"), ...words], isRight);
  const ended = ({ status }) => status === 0;
  const [first, last] = [`/run/netns/${names[0]}`, "10.60.0.1"];
  return [
    time("an empty Node", process.execPath, ["-e", ""], ended),
    time(
      "ip address of each namespace, by hand",
      "sh",
      ["-c", `for n in ${names.join(" ")}; do ip -n $n -j address; done`],
      ended,
    ),
    netctl("netctl network ls", ["network", "ls"], ({ stdout }) => stdout.includes("net1")),
    netctl("netctl sandbox ls", ["sandbox", "ls"], ended),
    netctl("netctl port", ["port", "nobody"], ({ status }) => status === 1),
    netctl(
      "netctl inspect (all)",
      ["inspect", "--json"],
      ({ stdout }) => JSON.parse(stdout).networks.flatMap(({ attachments }) => attachments).length === count,
    ),
    netctl("netctl inspect, one container", ["inspect", first], ({ stdout }) => stdout.includes("eth0")),
    netctl("netctl inspect --graph", ["inspect", "--graph"], ({ stdout }) => stdout.includes("</svg>")),
    netctl("netctl trace, without --probe", ["trace", first, last], ended),
    netctl("netctl doctor", ["doctor", "--json"], ({ stdout }) => stdout.includes("netctl.doctor/1")),
    netctl("netctl metrics", ["metrics"], ({ stdout }) => stdout.includes("netctl_attachments")),
  ];
}

try {
  must("ip", ["netns", "add", host]);
  inHost("ip", "link", "set", "lo", "up");
  mkdirSync(environment.NETCTL_CONF_DIR, { recursive: true });
  for (const index of [0, 1])
    writeFileSync(join(environment.NETCTL_CONF_DIR, `net${index}.conflist`), JSON.stringify(conflist(index)));
  for (const [index, name] of names.entries()) {
    must("ip", ["netns", "add", name]);
    attach(name, index);
  }
  const rows = measure();
  const heads = [`with ${count} containers`, "median ms", "p95 ms"];
  const lines = [
    heads,
    heads.map(() => "---"),
    ...rows.map((row) => [row.title, row.median.toFixed(0), row.p95.toFixed(0)]),
  ];
  const table = lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
  console.log(table);
  if (process.argv.includes("--write")) writePage(join(root, "docs/performance.md"), table, "tool");
} finally {
  // netd ends with its host's namespace gone from under it: its socket is taken away.
  rmSync(environment.NETCTL_RUN_DIR, { recursive: true, force: true });
  for (const name of [...names, host]) run("ip", ["netns", "delete", name]);
  rmSync(directory, { recursive: true, force: true });
}
