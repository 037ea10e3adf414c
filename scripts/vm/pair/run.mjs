// Two VMs, joined by a wire that leads nowhere else, and the checks on them.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runMachine } from "../machine.mjs";
import { beginning, checks } from "./checks.mjs";
import { Host } from "./host.mjs";
import { Gone, Shell } from "./shell.mjs";

/** In each VM the only step: to obey. */
export const pairStep = {
  name: "pair",
  title: "Networks over two hosts, each a VM",
  modules: ["virtio_console", "virtio_net"],
  args: ["scripts/vm/pair/obey.mjs"],
  environment: {},
  limitMs: 120 * 60_000,
};

/**
 * Boots both, and leaves in `scratch`/1/out what the first has left there, and pair.json.
 * @param {{ kernel: object, root: string, scratch: string, limitMs: number, signal: AbortSignal, text: string }} options
 *   as of runMachine; `text`: in the titles of the checks that are wanted
 * @returns undefined, or why a VM did not end by itself
 */
export async function runPair({ kernel, root, scratch, limitMs, signal, text }) {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const wire = join(scratch, "wire");
  const machines = [];
  const hosts = [];
  try {
    for (const number of [1, 2]) {
      const folder = join(scratch, String(number));
      const out = join(folder, "out");
      mkdirSync(out, { recursive: true });
      writeFileSync(join(out, "job.json"), JSON.stringify({ steps: [pairStep] }));
      const socket = join(folder, "shell");
      const shell = await Shell.listen(socket);
      hosts.push({ shell, host: new Host(number, shell, root, out) });
      machines.push(
        runMachine({
          kernel,
          root,
          out,
          initramfs: join(folder, "initramfs.gz"),
          limitMs,
          signal: both,
          devices: [...shellDevice(socket), ...card(number, wire)],
          label: `h${number}`,
        }),
      );
      // The second one connects to what the first one listens on.
      if (number === 1) await untilExists(wire, machines[0]);
    }
    const ended = Promise.race(machines).then((why) => {
      throw new Error(why ?? "A VM has ended");
    });
    ended.catch(() => {});
    for (const { shell } of hosts) await Promise.race([shell.ready(both), ended]);
    const results = await runChecks(
      hosts.map(({ host }) => host),
      text,
    );
    writeFileSync(join(scratch, "1/out/pair.json"), JSON.stringify(results));
  } catch (error) {
    stop.abort();
    await Promise.all(machines);
    return error.message;
  } finally {
    for (const { shell } of hosts) shell.end();
  }
  return (await Promise.all(machines)).find((why) => why !== undefined);
}

async function runChecks(hosts, text) {
  const results = [];
  for (const check of [...beginning, ...checks.filter(({ title }) => title.includes(text))]) {
    const { title } = check;
    const startMs = performance.now();
    const result = { title, status: "pass", reason: "" };
    try {
      const note = await check.run(hosts);
      if (note !== undefined) result.reason = note;
    } catch (error) {
      if (error instanceof Gone) throw error;
      result.status = "fail";
      result.reason = error.message;
      for (const host of hosts) console.log(`${host.name}: ${await host.lastWords().catch(String)}`);
    }
    results.push(result);
    const seconds = Math.round((performance.now() - startMs) / 1000);
    console.log(`${result.status === "pass" ? "ok" : "FAIL"}  ${title} (${seconds} s)  ${result.reason}`);
    if (result.status === "fail" && beginning.includes(check)) break;
  }
  return results;
}

/** What commands come by. */
const shellDevice = (path) =>
  [
    ["-device", "virtio-serial-pci"],
    ["-chardev", `socket,id=shell,path=${path}`],
    ["-device", "virtserialport,chardev=shell,name=shell"],
  ].flat();

/** Frames go from one qemu to the other by a socket, and to nobody else. */
const card = (number, path) =>
  [
    ["-netdev", `stream,id=wire,server=${number === 1 ? "on" : "off"},addr.type=unix,addr.path=${path}`],
    ["-device", `virtio-net-pci,netdev=wire,mac=52:54:00:00:00:0${number},romfile=`],
  ].flat();

async function untilExists(path, machine) {
  let hasEnded = false;
  void machine.then(() => {
    hasEnded = true;
  });
  while (!existsSync(path)) {
    if (hasEnded) throw new Error("The first VM has ended");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
