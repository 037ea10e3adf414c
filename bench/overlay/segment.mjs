// npm run bench:overlay-segment: what a container that comes or goes in a network of mode l2 costs each other host: one
// agent with a network namespace of its own, all other hosts and their containers as an etcd has them, and the CPU time
// of the agent's process while another process changes one container after the other, less what it takes idle.
//   --hosts N   (30)   --endpoints N   (1000)   --changes N   (100)
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { Stage } from "../../scripts/demo-stage.mjs";

const number = (value) => ({ type: "string", default: String(value) });
const { values } = parseArgs({
  options: { hosts: number(30), endpoints: number(1000), changes: number(100) },
});
const changes = Number(values.changes);
const url = "http://127.0.0.1:2379";
/** Between two changes: longer than the agent waits for more of what the kernel tells. */
const intervalMs = 200;
const stage = new Stage();

await stage.play(async () => {
  const program = join(stage.scratch, "segment-host.js");
  await build({
    entryPoints: [fileURLToPath(new URL("segment-host.ts", import.meta.url))],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
    define: { NETCTL_LIB_DIRECTORY: JSON.stringify(stage.lib) },
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
  });
  const wire = stage.host("wire");
  const words = ["--data-dir", join(stage.scratch, "etcd"), "--listen-client-urls", url];
  words.push("--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380");
  stage.start(wire, "etcd", [...words, "--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"]);
  const etcdctl = (...args) =>
    stage.run("nsenter", [`--net=/run/netns/${wire}`, "etcdctl", "--endpoints", url, ...args], {
      env: { PATH: process.env.PATH, ETCDCTL_API: "3" },
    });
  await stage.until("etcd answers", () => {
    try {
      etcdctl("endpoint", "health");
      return true;
    } catch {
      return false;
    }
  });
  const host = stage.host("s0");
  stage.run("ip", ["-n", host, "address", "add", "10.77.0.0/32", "dev", "lo"]);
  const directory = mkdtempSync(join(stage.scratch, "host-"));
  const args = [program, url, directory, `/run/netns/${host}`, values.hosts, values.endpoints];
  const child = spawn("nsenter", [`--net=/run/netns/${wire}`, process.execPath, ...args], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  stage.atEnd(() => child.kill("SIGKILL"));
  const ended = new Promise((_resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`The host has ended with code ${code}`)));
  });
  ended.catch(() => undefined);
  const answer = () => Promise.race([ended, new Promise((resolve) => child.once("message", resolve))]);
  const ask = (question) => {
    child.send(question);
    return answer();
  };
  const { spare, key } = await answer();
  // The last of what a start does.
  await sleep(3000);
  const cpuOver = async (work) => {
    const beganMs = performance.now();
    const before = await ask("cpu");
    await work();
    return { cpuMs: (await ask("cpu")) - before, ms: performance.now() - beganMs };
  };
  const record = JSON.stringify({ v: 1, mac: "02:00:00:00:ff:ff", ips: [spare] });
  const busy = await cpuOver(async () => {
    for (let at = 0; at < changes; at++) {
      if (at % 2 === 0) etcdctl("put", key, record);
      else etcdctl("del", key);
      await sleep(intervalMs);
    }
  });
  const idle = await cpuOver(() => sleep(busy.ms));
  etcdctl("put", key, record);
  // Ended with the bench, where it never is.
  while (!(await ask(spare))) await sleep(50);
  const figures = {
    hosts: Number(values.hosts),
    endpoints: Number(values.endpoints),
    changes,
    cpuMsPerChange: (busy.cpuMs - idle.cpuMs) / changes,
    cpuPercentIdle: (idle.cpuMs / idle.ms) * 100,
  };
  process.stdout.write(`${JSON.stringify(figures, undefined, 2)}\n`);
});
