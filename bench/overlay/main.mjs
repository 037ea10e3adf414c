// npm run bench:overlay-scale: what an overlay network costs and how fast its hosts hear of each other. Hosts are namespaces
// with a netd each; etcd is one member without fsync. docs/overlay-scale.md says what the figures mean.
//   --hosts N    that run here (20)   --joins N   of one more host, one after the other (10)
//   --known N    hosts that one netd is told of (1000)   --names N   containers on each of those (30)
//   --only joins ends when the last one has joined
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Stage, Stop } from "../../scripts/demo-stage.mjs";

const { values } = parseArgs({
  options: {
    hosts: { type: "string", default: "20" },
    joins: { type: "string", default: "10" },
    known: { type: "string", default: "1000" },
    names: { type: "string", default: "30" },
    only: { type: "string", default: "" },
  },
});
const [hosts, joins, known, names] = [values.hosts, values.joins, values.known, values.names].map(Number);
const url = "http://203.0.113.254:2379";
const stage = new Stage();
const figures = {};
const namespaces = new Map();
const netds = new Map();
let wire;

const environment = (number) => ({
  PATH: process.env.PATH,
  NETCTL_CONF_DIR: join(stage.scratch, `h${number}/conf`),
  NETCTL_BIN_DIR: stage.bin,
  NETCTL_STATE_DIR: join(stage.scratch, `h${number}/state`),
  NETCTL_RUN_DIR: join(stage.scratch, `h${number}/run`),
  NETCTL_LOG_FILE: logOf(number),
  NETCTL_RESOLV_CONF: "/dev/null",
  NETCTL_NETD: "never",
  NETCTL_NETD_CGROUP: "none",
});
const logOf = (number) => join(stage.scratch, `h${number}/run/netd.log`);
const inHost = (number, ...words) =>
  stage.run("nsenter", [`--net=/run/netns/${namespaces.get(number)}`, "--", ...words], {
    env: environment(number),
  });
const netctl = (number, ...words) => inHost(number, join(stage.bin, "netctl"), ...words);
const tries = (work) => {
  try {
    work();
    return true;
  } catch {
    return false;
  }
};

function addHost(number) {
  const host = stage.host(`h${number}`);
  namespaces.set(number, host);
  const port = `p${number}`;
  stage.run("ip", ["-n", wire, "link", "add", port, "type", "veth", "peer", "name", "up0", "netns", host]);
  stage.run("ip", ["-n", wire, "link", "set", port, "master", "wire", "up"]);
  stage.run("ip", ["-n", host, "address", "add", `203.0.113.${number}/24`, "dev", "up0"]);
  stage.run("ip", ["-n", host, "link", "set", "up0", "up"]);
  stage.run("ip", ["-n", host, "route", "add", "default", "via", "203.0.113.254"]);
  mkdirSync(join(stage.scratch, `h${number}/run`), { recursive: true, mode: 0o700 });
  netds.set(
    number,
    stage.start(host, process.execPath, ["--optimize-for-size", join(stage.lib, "netd.cjs")], {
      env: environment(number),
    }),
  );
}

const logLines = (number) =>
  readFileSync(logOf(number), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));

/** When netd has written a line that says both, in milliseconds since 1970; undefined if it has not. */
function timeOf(number, message, part) {
  const line = logLines(number).find((each) => each.msg === message && JSON.stringify(each).includes(part));
  return line && Number(new Date(line.time));
}

const percentile = (numbers, share) =>
  [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * share))];

const revision = () =>
  Number(
    /"revision":"?(\d+)/.exec(
      stage.run("nsenter", [
        `--net=/run/netns/${wire}`,
        "--",
        "etcdctl",
        "--endpoints",
        url,
        "get",
        "/",
        "-w",
        "json",
      ]),
    )?.[1],
  );

const cpuMs = (number) => {
  const fields = readFileSync(`/proc/${netds.get(number).pid}/stat`, "utf8")
    .split(") ")[1]
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
};
/**
 * What is resident in MiB: `anonymous` it alone has; `file` are pages of programs and libraries, which all processes of
 * Node share; `proportional` counts each page as a part, by how many have it.
 */
const memoryOf = (number) => {
  const read = (file, name) =>
    Math.round(
      Number(
        new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(
          readFileSync(`/proc/${netds.get(number).pid}/${file}`, "utf8"),
        )[1],
      ) / 102.4,
    ) / 10;
  return {
    resident: read("status", "VmRSS"),
    anonymous: read("status", "RssAnon"),
    file: read("status", "RssFile"),
    proportional: read("smaps_rollup", "Pss"),
  };
};
const bytesTo = (number) =>
  JSON.parse(stage.run("ip", ["-n", wire, "-s", "-j", "link", "show", `p${number}`]))[0].stats64.tx.bytes;

function makeWire() {
  wire = stage.host("wire");
  stage.run("ip", ["-n", wire, "link", "add", "wire", "type", "bridge"]);
  stage.run("ip", ["-n", wire, "link", "set", "wire", "up"]);
  stage.run("ip", ["-n", wire, "address", "add", "203.0.113.254/24", "dev", "wire"]);
  const words = ["--data-dir", join(stage.scratch, "etcd"), "--listen-client-urls", url];
  words.push("--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380");
  stage.start(wire, "etcd", [...words, "--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"]);
}

async function member(number) {
  const words = ["cluster", number === 1 ? "init" : "join", "--etcd", url, "--host-name", `h${number}`];
  await stage.until(`h${number} is a member`, () => tries(() => netctl(number, ...words)));
  await stage.until(`h${number} has the network`, () =>
    number === 1 ? true : netctl(number, "network", "ls").includes(" web "),
  );
}

/**
 * A container on a host that has no address of the network yet, by the plugin itself, and what passes from its ADD's
 * return until another host's container has its first answer: pings every 5 ms, begun when ADD has returned.
 */
async function firstEndpoint(number, pinger) {
  const netns = `${namespaces.get(number)}-c`;
  stage.run("ip", ["netns", "add", netns]);
  stage.atEnd(() => spawnSync("ip", ["netns", "delete", netns]));
  const call = {
    ...environment(number),
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: `c${number}`,
    CNI_NETNS: `/run/netns/${netns}`,
    CNI_IFNAME: "eth0",
    CNI_PATH: stage.bin,
  };
  const plugin = ["--", join(stage.bin, "overlay-vxlan")];
  const config = { cniVersion: "1.1.0", name: "web", type: "overlay-vxlan" };
  const addMs = performance.now();
  const { ips } = JSON.parse(
    stage.run("nsenter", [`--net=/run/netns/${namespaces.get(number)}`, ...plugin], {
      env: call,
      input: JSON.stringify(config),
    }),
  );
  const returnedMs = performance.now();
  const [address] = ips[0].address.split("/");
  const from = `--net=${join(stage.scratch, `h${pinger}/run/netns/s`)}`;
  const ping = spawn("nsenter", [from, "--", "ping", "-n", "-i", "0.005", "-c", "2000", address], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let text = "";
  for await (const piece of ping.stdout) {
    text += piece;
    if (!text.includes("bytes from") || !text.includes("time=")) continue;
    const reachedMs = performance.now();
    ping.kill("SIGKILL");
    return { addMs: returnedMs - addMs, reachedMs: reachedMs - returnedMs };
  }
  throw new Stop(`h${pinger} never reached ${address} of h${number}`);
}

/** Whatever fails, nothing of it is left. */
const asStop = (work) => async () => {
  try {
    await work();
  } catch (error) {
    throw error instanceof Stop ? error : new Stop(error.stack);
  }
};

await stage.play(
  asStop(async () => {
    makeWire();
    for (let number = 1; number <= hosts; number++) addHost(number);
    await member(1);
    netctl(1, "network", "create", "-d", "overlay-vxlan", "web");
    for (let number = 2; number <= hosts; number++) await member(number);
    for (let number = 1; number <= hosts; number++)
      netctl(number, "sandbox", "create", "s", "--network", "web");

    stage.title(`${joins} hosts join ${hosts}, one after the other`);
    const everywhere = [];
    const reached = [];
    const first = [];
    for (let join = 1; join <= joins; join++) {
      const number = hosts + join;
      addHost(number);
      await member(number);
      first.push(await firstEndpoint(number, 1 + (join % hosts)));
      const [block] = JSON.parse(netctl(1, "cluster", "host", "ls", "--json")).find(
        ({ name }) => name === `h${number}`,
      ).blocks;
      const claimed = timeOf(number, "claimed addresses", block);
      for (let other = 1; other < number; other++) {
        await stage.until(`h${other} knows h${number}`, () =>
          timeOf(other, "changed the kernel", `route to ${block}`),
        );
        const delay = timeOf(other, "changed the kernel", `route to ${block}`) - claimed;
        everywhere.push(delay);
        if (other === 1) reached.push(delay);
      }
    }
    figures.joinEverywhereMs = { p50: percentile(everywhere, 0.5), p99: percentile(everywhere, 0.99) };
    for (const part of ["addMs", "reachedMs"]) {
      const all = first.map((each) => each[part]);
      figures[`firstEndpoint_${part}`] = { p50: percentile(all, 0.5), p99: percentile(all, 0.99) };
    }
    figures.firstHostReachesItMs = { p50: percentile(reached, 0.5), p99: percentile(reached, 0.99) };

    if (values.only === "joins") {
      console.log(JSON.stringify(figures, undefined, 2));
      return;
    }

    stage.title("Nothing happens, for twenty seconds");
    const before = { revision: revision(), cpu: cpuMs(1) };
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    figures.steady = {
      hosts: hosts + joins,
      writesPerSecond: (revision() - before.revision) / 20,
      cpuPercentOfOneHost: (cpuMs(1) - before.cpu) / 200,
    };
    figures.memoryMiBOfOneHost = memoryOf(1);

    stage.title(`One host hears of ${known} others, with ${known * names} containers`);
    const { networks } = JSON.parse(netctl(1, "cluster", "status", "--json")).agent;
    const [subnet] = networks[0].subnets;
    const others = [...netds.keys()].filter((number) => number > 1);
    for (const number of others) netds.get(number).kill("SIGKILL");
    const fill = fileURLToPath(new URL("fill.mjs", import.meta.url));
    const cpu = cpuMs(1);
    const startMs = performance.now();
    stage.run("nsenter", [
      `--net=/run/netns/${wire}`,
      "--",
      process.execPath,
      fill,
      url,
      "web",
      subnet,
      String(known),
      String(names),
    ]);
    const wanted = known + hosts + joins - 1;
    const routes = () => inHost(1, "ip", "route", "show", "proto", "201").split(" onlink").length - 1;
    await stage.until("all of them are in the kernel", () => routes() >= wanted);
    figures.filling = { seconds: (performance.now() - startMs) / 1000, cpuMs: cpuMs(1) - cpu };
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    figures.memoryMiBWithAll = memoryOf(1);
    const idle = cpuMs(1);
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    figures.cpuPercentWithAll = (cpuMs(1) - idle) / 200;

    const perEvent = async (kind, count, pauseMs) => {
      const idlePerMs = figures.cpuPercentWithAll / 100;
      const [cpuBefore, beganMs] = [cpuMs(1), performance.now()];
      const script = fileURLToPath(new URL("events.mjs", import.meta.url));
      const words = [script, url, "web", subnet, kind, String(count), String(pauseMs)];
      stage.run("nsenter", [`--net=/run/netns/${wire}`, "--", process.execPath, ...words]);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return (cpuMs(1) - cpuBefore - idlePerMs * (performance.now() - beganMs)) / count;
    };
    stage.title("Another host's container gets another name; another host comes, and goes");
    figures.cpuMsOfAName = await perEvent("rename", 400, 25);
    figures.cpuMsOfAHost = await perEvent("join", 100, 100);

    stage.title("The same host starts again, and hears all at once");
    const bytes = bytesTo(1);
    netds.get(1).kill("SIGKILL");
    const restartMs = performance.now();
    const host = namespaces.get(1);
    netds.set(
      1,
      stage.start(host, process.execPath, ["--optimize-for-size", join(stage.lib, "netd.cjs")], {
        env: environment(1),
      }),
    );
    await stage.until("it is connected", () =>
      logLines(1).some(({ msg, pid }) => msg === "connected to the engine" && pid === netds.get(1).pid),
    );
    figures.restart = { seconds: (performance.now() - restartMs) / 1000, bytes: bytesTo(1) - bytes };
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    figures.memoryMiBAfterRestart = memoryOf(1);

    console.log(JSON.stringify(figures, undefined, 2));
  }),
);
