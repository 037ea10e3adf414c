// npm run bench:names: netd's resolver beside others, each asked by dnsperf from inside one container's namespace, in turn,
// several rounds of it. docs/dns-performance.md says what the figures mean.
//   --seconds N   for each measurement (1)   --rounds N       of all of them (3)
//   --names N     of containers (1000)       --only netctl,unbound   leaves the others out (none: all)
//   --write       the table into the page    --containers N   for the memory (1000; 0 leaves it out)

import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Load, machineTicks } from "./load.mjs";
import { memoryLine, tableOf, writeInto } from "./report.mjs";
import { addressOf, Rig, residentMiB, ticksOf } from "./rig.mjs";
import { servers, startOutside } from "./servers.mjs";

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    containers: { type: "string", default: "1000" },
    names: { type: "string", default: "1000" },
    only: { type: "string", default: Object.keys(servers).join() },
    write: { type: "boolean", default: false },
  },
});
const chosen = options.only === "none" ? [] : options.only.split(",");
for (const name of chosen) {
  if (name in servers) continue;
  console.error(`bench:names: --only: nobody is called "${name}"`);
  process.exit(2);
}
const [seconds, rounds, containers, names] = ["seconds", "rounds", "containers", "names"].map((name) =>
  Number(options[name]),
);

/** What each measurement gave, by server. */
async function measure(rig, outside) {
  joinBench(rig);
  const load = new Load(rig, seconds, names);
  const running = [];
  for (const title of chosen) {
    const server = await servers[title](rig, names);
    if (!server) continue;
    const row = { title, server, local: [], kept: [], fresh: [], fixed: [], half: [] };
    running.push(row);
    for (let tries = 0; !load.isAnswering(server); tries++) {
      if (tries === 200) throw new Error(`${title} does not answer at ${server.address}`);
      await sleep(50);
    }
    load.warm(server);
  }
  const none = { rate: Number.NaN, lost: 0, bad: false, microseconds: Number.NaN };
  const pids = [outside, ...running.map(({ server }) => server.pid)];
  const before = usage(pids);
  for (let round = 0; round < rounds; round++) {
    // Each is the first once, since what one leaves behind is in the way of the next.
    for (let place = 0; place < running.length; place++) {
      const { title, server, local, kept, fresh, fixed, half } = running[(place + round) % running.length];
      console.error(`round ${round + 1}: ${title} …`);
      local.push(load.local(server));
      kept.push(server.forwards ? load.kept(server) : none);
      fresh.push(server.forwards ? load.fresh(server) : none);
      fixed.push(load.fixed(server));
      half.push(load.half(server, local.at(-1).rate));
    }
  }
  const after = usage(pids);
  for (const row of running) {
    row.memory = residentMiB(row.server.pid);
    await row.server.stop?.();
  }
  const share = (name) => (after[name] - before[name]) / (after.all - before.all);
  const quiet = { others: share("busy") - share("own"), stolen: share("stolen") };
  return tableOf(running, { seconds, rounds, quiet });
}

/** The container that asks: behind a bridge, so that it has a way to the host's server as any other. */
function joinBench(rig) {
  const bridge = {
    cniVersion: "1.1.0",
    name: "bench",
    type: "bridge",
    bridge: "br0",
    isDefaultGateway: true,
    ipam: { type: "host-local", ranges: [[{ subnet: "10.201.0.0/24" }]] },
  };
  const at = { id: "container0", namespace: rig.inside };
  const prevResult = JSON.parse(rig.add("bridge", { ...at, config: bridge }));
  rig.add("dns", { ...at, config: { cniVersion: "1.1.0", name: "bench", type: "dns", prevResult } });
}

/** Ticks of the machine, and of what belongs to the bench: this process, what it has started and waited for, the servers. */
function usage(pids) {
  const own = pids.reduce((sum, pid) => sum + ticksOf(pid), ticksOf(process.pid, { withChildren: true }));
  return { ...machineTicks(), own };
}

/** What netd takes for containers, each a namespace with a name and sockets of the resolver; then all are asked once. */
function measureMemory(rig) {
  rig.useFolder("-memory");
  console.error(`${containers} containers …`);
  const first = containers + 1;
  for (let index = 1; index <= first; index++) rig.makeNamespace(`${rig.tag}-${index}`);
  rig.attach(first, "first");
  const pid = rig.netdPid();
  const before = residentMiB(pid);
  const started = performance.now();
  for (let index = 1; index <= containers; index++) rig.attach(index, `c${index}`);
  const each = (performance.now() - started) / containers;
  for (let index = 1; index <= containers; index++) {
    const other = (index % containers) + 1;
    const answer = rig.within(`${rig.tag}-${index}`, "dig", ["+short", "@127.0.0.11", `c${other}`]).trim();
    if (answer !== addressOf(other)) throw new Error(`c${other}: ${answer}`);
  }
  const after = residentMiB(pid);
  process.kill(pid, "SIGKILL");
  // As a netd that has to take up all of them at its start.
  rig.attach(first, "first");
  return memoryLine({ containers, before, after, restarted: residentMiB(rig.netdPid()), each });
}

const rig = new Rig();
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    rig.remove();
    process.exit(1);
  });
}
try {
  writeFileSync(rig.at("resolv.conf"), "nameserver 10.9.0.1\n");
  const outside = startOutside(rig, rig.host);
  const lines = chosen.length > 0 ? await measure(rig, outside.pid) : [];
  outside.kill("SIGKILL");
  if (containers > 0) lines.push("", measureMemory(rig));
  console.log(lines.join("\n"));
  if (options.write)
    writeInto(fileURLToPath(new URL("../../docs/dns-performance.md", import.meta.url)), lines);
} finally {
  rig.remove();
}
