import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const bin = fileURLToPath(new URL("../../dist/bin", import.meta.url));

/** Address of the container with that number: behind no bridge, since nothing is ever sent to it. */
export const addressOf = (index) => `10.200.${index >> 8}.${index & 255}`;

/** Clock ticks (10 ms) of CPU that a process has had. @param withChildren also those that it has waited for */
export function ticksOf(pid, { withChildren = false } = {}) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return fields.slice(11, withChildren ? 15 : 13).reduce((sum, field) => sum + Number(field), 0);
}

export const residentMiB = (pid) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;

/** A host, containers on it, and servers: in network namespaces of their own, all of which go with `remove()`. */
export class Rig {
  scratch = mkdtempSync(join(tmpdir(), "netctl-names-"));
  tag = `netctl-names-${process.pid}`;
  host = `${this.tag}-host`;
  /** The container that asks. */
  inside = `${this.tag}-0`;
  #environment = {};
  #children = [];
  #namespaces = [];
  #folders = [];

  constructor() {
    this.useFolder("");
    this.makeNamespace(this.host);
    this.makeNamespace(this.inside);
  }

  at(...parts) {
    return join(this.scratch, ...parts);
  }

  /** From now on plugins speak to a netd of these run and state directories. */
  useFolder(suffix) {
    for (const folder of ["state", "run"]) mkdirSync(this.at(`${folder}${suffix}`));
    this.#folders.push(`run${suffix}`);
    this.#environment = {
      PATH: process.env.PATH,
      NETCTL_STATE_DIR: this.at(`state${suffix}`),
      NETCTL_RUN_DIR: this.at(`run${suffix}`),
      NETCTL_BIN_DIR: bin,
      NETCTL_RESOLV_CONF: this.at("resolv.conf"),
      NETCTL_LOG_FILE: this.at("netd.log"),
      NETCTL_NETD_CGROUP: "none",
      CNI_PATH: bin,
    };
  }

  /** @throws with what it has printed */
  run(command, args, input) {
    const settings = { encoding: "utf8", env: this.#environment, input, maxBuffer: 1 << 30 };
    const { status, stdout, stderr, error } = spawnSync(command, args, settings);
    if (error || status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error ?? stderr}${stdout}`);
    return stdout;
  }

  within(namespace, command, args, input) {
    return this.run("nsenter", [`--net=/run/netns/${namespace}`, "--", command, ...args], input);
  }

  makeNamespace(name) {
    this.run("ip", ["netns", "add", name]);
    this.#namespaces.push(name);
    this.run("ip", ["-n", name, "link", "set", "lo", "up"]);
  }

  /** A server that runs until the rig is removed, in a session of its own as services have: the kernel shares the CPU among sessions. */
  start(namespace, command, args) {
    const settings = { stdio: "ignore", env: this.#environment, detached: true };
    const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", command, ...args], settings);
    this.#children.push(child);
    return child;
  }

  /** One that has gone into the background by itself. */
  adopt(pid) {
    this.#children.push({ kill: (signal) => process.kill(pid, signal) });
  }

  /** CNI's ADD. */
  add(plugin, { id, namespace, config, ifName = "eth0" }) {
    const words = ["CNI_COMMAND=ADD", `CNI_CONTAINERID=${id}`, `CNI_IFNAME=${ifName}`];
    const all = [...words, `CNI_NETNS=/run/netns/${namespace}`, join(bin, plugin)];
    return this.within(this.host, "env", all, JSON.stringify(config));
  }

  /** A container of the bench's network with that name. @param at another's namespace, on an interface of that name */
  attach(index, name, at) {
    const namespace = at?.namespace ?? `${this.tag}-${index}`;
    const ifName = at?.ifName ?? "eth0";
    const config = {
      cniVersion: "1.1.0",
      name: "bench",
      type: "dns",
      runtimeConfig: { aliases: { bench: [name] } },
      prevResult: {
        cniVersion: "1.1.0",
        interfaces: [{ name: ifName, sandbox: `/run/netns/${namespace}` }],
        ips: [{ interface: 0, address: `${addressOf(index)}/16` }],
      },
    };
    this.add("dns", { id: at ? "container0" : `container${index}`, namespace, config, ifName });
  }

  netdPid(folder = this.#folders.at(-1)) {
    const [file] = readdirSync(this.at(folder)).filter(
      (name) => name.endsWith(".lock") && name.startsWith("netd-"),
    );
    return Number(readFileSync(this.at(folder, file), "utf8"));
  }

  remove() {
    for (const child of this.#children) tries(() => child.kill("SIGKILL"));
    for (const folder of this.#folders) tries(() => process.kill(this.netdPid(folder), "SIGKILL"));
    for (const name of this.#namespaces.reverse()) spawnSync("ip", ["netns", "delete", name]);
    rmSync(this.scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}

function tries(work) {
  try {
    work();
  } catch {
    // It has ended, or was never started.
  }
}
