// Namespaces for bench/published: a host with an uplink, a neighbour on its LAN, and containers.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";

let made = 0;

/** Runs a program inside; stdout. */
export function inside(namespace, command, args, options = {}) {
  return execFileSync("nsenter", [`--net=/run/netns/${namespace}`, command, ...args], {
    encoding: "utf8",
    ...options,
  });
}

export const script = (namespace, text) =>
  inside(namespace, "sh", ["-ec", text], { stdio: ["ignore", "pipe", "inherit"] });

/** One host for one subject; everything of it goes with `close`. */
export class Lab {
  constructor(hint) {
    this.prefix = `nb${process.pid}x${made++}${hint}`;
    this.directory = mkdtempSync("/var/tmp/netctl-bench-");
    this.namespaces = [];
    this.children = [];
    this.host = this.namespace("h");
    this.lan = this.namespace("l");
    script(
      this.host,
      `ip link add up0 type veth peer name eth0 netns ${this.lan}; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0; sysctl -qw net.ipv4.ip_forward=1`,
    );
    script(this.lan, "ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0");
  }

  namespace(hint) {
    const name = `${this.prefix}${hint}`;
    execFileSync("ip", ["netns", "add", name]);
    this.namespaces.push(name);
    script(name, "ip link set lo up");
    return name;
  }

  /** Starts a program inside, until it says something. */
  async serve(namespace, program, args) {
    const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, program, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.children.push(child);
    await new Promise((resolve, reject) => {
      child.stdout.once("data", resolve);
      child.once("exit", () => reject(new Error(`${program} ended`)));
    });
  }

  close() {
    for (const child of this.children) child.kill("SIGKILL");
    for (const name of this.namespaces) execFileSync("ip", ["netns", "del", name]);
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }

  get environment() {
    return {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      NETCTL_STATE_DIR: join(this.directory, "state"),
      NETCTL_RUN_DIR: join(this.directory, "run"),
      NETCTL_NETD_CGROUP: "none",
    };
  }
}

/** One verb of a list of plugins, as a runtime calls it; ADD's result. */
export function callChain(lab, bin, plugins, { verb, container, id, portMappings, result }) {
  let previous = result;
  const ordered = verb === "DEL" ? plugins.toReversed() : plugins;
  for (const plugin of ordered) {
    const config = {
      cniVersion: "1.0.0",
      name: "bench",
      ...plugin,
      ...(plugin.type === "portmap" ? { runtimeConfig: { portMappings } } : {}),
      ...(previous ? { prevResult: previous } : {}),
    };
    const text = execFileSync("nsenter", [`--net=/run/netns/${lab.host}`, join(bin, plugin.type)], {
      input: JSON.stringify(config),
      encoding: "utf8",
      env: {
        ...lab.environment,
        CNI_COMMAND: verb,
        CNI_CONTAINERID: id,
        CNI_IFNAME: "eth0",
        CNI_NETNS: `/run/netns/${container}`,
        CNI_PATH: bin,
      },
    });
    if (verb === "ADD") previous = JSON.parse(text);
  }
  return previous;
}

/** bridge (ipMasq) and portmap, with leases of the lab's own. */
export const publishingChain = (lab) => [
  {
    type: "bridge",
    bridge: "bench0",
    isGateway: true,
    ipMasq: true,
    ipam: {
      type: "host-local",
      dataDir: join(lab.directory, "leases"),
      ranges: [[{ subnet: "10.66.0.0/16" }]],
      routes: [{ dst: "0.0.0.0/0" }],
    },
  },
  { type: "portmap", capabilities: { portMappings: true } },
];
