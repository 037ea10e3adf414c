// npm run bench:repair -- [CONTAINERS] [--rounds N]: how long rules are gone after `nft flush ruleset` while netd runs,
// and what that costs netd, by the number of containers with ten published ports each. docs/repair.md has the figures.
//
// One container is attached by real ADDs; the records of the others are copies of its records with ids, addresses and
// ports of their own. What netd reads, makes and puts back is the same as with real containers: links are none of it.
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { crc32 } from "node:zlib";
import { callChain, inside, Lab, publishingChain, script } from "./published/network.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    bin: { type: "string", default: join(root, "dist/bin") },
    lib: { type: "string", default: join(root, "dist/lib") },
    node: { type: "string", multiple: true, default: [] },
  },
});
const counts = positionals.length > 0 ? positionals.map(Number) : [100, 1000, 5000];
const portsEach = 10;
const firstPort = 10_000;
const patienceMs = 60_000;
const pollMs = 20;

const addressOf = (index) => `10.66.${(index + 2) >> 8}.${(index + 2) & 0xff}`;
const portOf = (index, port) => firstPort + index * portsEach + port;
const idOf = (index) => index.toString(16).padStart(64, "0");
const macOf = (index) =>
  `0a:00:00:00:${(index >> 8).toString(16).padStart(2, "0")}:${(index & 0xff).toString(16).padStart(2, "0")}`;

function line(json) {
  const text = JSON.stringify(json);
  return `${crc32(text).toString(16).padStart(8, "0")} ${text}`;
}

/** The records of container 0 for another: every text and port of its own in place of the first one's. */
function copyOf(text, template, index) {
  const words = new Map([
    [template.id, idOf(index)],
    [template.ip, addressOf(index)],
    [template.veth, `veth${index.toString(16).padStart(8, "0")}`],
    [template.mac, macOf(index)],
  ]);
  const replaced = (value, name) => {
    if (typeof value === "string") {
      const [word, ...rest] = value.split("/");
      return [words.get(word) ?? word, ...rest].join("/");
    }
    if (typeof value === "number" && name === "hostPort") return portOf(index, value - firstPort);
    if (Array.isArray(value)) return value.map((each) => replaced(each));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, replaced(each, key)]));
  };
  return text
    .split("\n")
    .map((each) => (each === "" ? "" : line(replaced(JSON.parse(each.slice(9))))))
    .join("\n");
}

function copyRecords(lab, count, result) {
  const directory = join(lab.directory, "state/journal/bench");
  const [host, container] = [
    result.interfaces.find(({ name }) => name.startsWith("veth")),
    result.interfaces.at(-1),
  ];
  const template = {
    id: idOf(0),
    ip: addressOf(0),
    veth: host.name,
    mac: container.mac,
  };
  const names = readdirSync(directory).filter((name) => name.startsWith(template.id));
  for (const name of names) {
    const text = readFileSync(join(directory, name), "utf8");
    for (let index = 1; index < count; index++)
      writeFileSync(join(directory, name.replace(template.id, idOf(index))), copyOf(text, template, index), {
        mode: 0o600,
      });
  }
}

/** Processor time in ms, of it and of the programs that it has waited for. */
function spentMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return fields.slice(11, 15).reduce((sum, each) => sum + Number(each), 0) * 10;
}

const memoryMiB = (pid, field) =>
  Math.round(
    Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024,
  );

function isPublished(lab, port) {
  try {
    inside(lab.host, "nft", ["get", "element", "inet", "netctl", "ports4", `{ tcp . ${port} }`], {
      stdio: "pipe",
    });
    return true;
  } catch {
    return false;
  }
}

async function untilPublished(lab, port) {
  const deadline = performance.now() + patienceMs;
  while (!isPublished(lab, port)) {
    if (performance.now() > deadline) throw new Error(`port ${port} is not back after ${patienceMs} ms`);
    await sleep(pollMs);
  }
}

async function untilIdle(pid) {
  for (let last = -1; last !== spentMs(pid); await sleep(300)) last = spentMs(pid);
}

async function measure(count) {
  const lab = new Lab("r");
  let service;
  try {
    mkdirSync(join(lab.directory, "run"), { recursive: true });
    const environment = { ...lab.environment, NETCTL_NETD_IDLE_EXIT_MS: "0" };
    service = spawn(
      "nsenter",
      [
        `--net=/run/netns/${lab.host}`,
        process.execPath,
        "--optimize-for-size",
        ...options.node,
        join(resolve(options.lib), "netd.cjs"),
      ],
      { env: environment, stdio: ["ignore", "inherit", "inherit"] },
    );
    while (!readdirSync(join(lab.directory, "run")).some((name) => name.endsWith(".sock")))
      await sleep(pollMs);
    const { pid } = service;
    const portMappings = Array.from({ length: portsEach }, (_, port) => ({
      hostPort: portOf(0, port),
      containerPort: 80 + 2 * port,
      protocol: "tcp",
    }));
    const container = lab.namespace("c");
    const result = callChain(lab, resolve(options.bin), publishingChain(lab), {
      verb: "ADD",
      container,
      id: idOf(0),
      portMappings,
    });
    copyRecords(lab, count, result);
    const last = portOf(count - 1, portsEach - 1);
    const rows = [];
    for (let round = 0; round <= Number(options.rounds); round++) {
      await untilIdle(pid);
      const before = spentMs(pid);
      const start = performance.now();
      script(lab.host, "nft flush ruleset");
      const flushed = performance.now();
      await untilPublished(lab, last);
      const goneMs = performance.now() - flushed;
      await untilIdle(pid);
      // The first fills tables, caches and the compiler's memory.
      if (round > 0) rows.push({ goneMs, cpuMs: spentMs(pid) - before, flushMs: flushed - start });
    }
    // One element that is taken away: everything is looked at, and hardly anything put back.
    await untilIdle(pid);
    const before = spentMs(pid);
    const lookStart = performance.now();
    script(lab.host, `nft delete element inet netctl ports4 '{ tcp . ${last} }'`);
    await untilPublished(lab, last);
    const oneMs = performance.now() - lookStart;
    await untilIdle(pid);
    return {
      count,
      rows,
      one: { oneMs, cpuMs: spentMs(pid) - before },
      peak: memoryMiB(pid, "VmHWM"),
      now: memoryMiB(pid, "VmRSS"),
    };
  } finally {
    // It ends by itself, so that `--node --cpu-prof` has written what it saw.
    if (service?.kill("SIGTERM")) await new Promise((resolve) => service.once("exit", resolve));
    lab.close();
  }
}

console.log(
  "containers, elements | gone after a flush, ms (each) | netd's processor time, ms | one element gone, ms | processor time, ms | memory, peak and after, MiB",
);
for (const count of counts) {
  const { rows, one, peak, now } = await measure(count);
  const list = (name) => rows.map((row) => Math.round(row[name])).join(" ");
  console.log(
    [
      count,
      count * (portsEach + 2) + 1,
      list("goneMs"),
      list("cpuMs"),
      Math.round(one.oneMs),
      one.cpuMs,
      `${peak} ${now}`,
    ].join(" | "),
  );
}
