import { copyFileSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { addressOf } from "./rig.mjs";

/**
 * A server: `pid` of its process, `address` in the container that asks, `asking` how a command gets there, `forwards`
 * whether it can be told whom to ask, and `stop`, where ending with the rig is not enough. Each has one thread that
 * answers, but for dockerd, whose Go has as many as there are CPUs. Absent where it is not installed.
 */
const inContainer = (rig) => ["nsenter", `--net=/run/netns/${rig.inside}`, "--"];
const numbers = (count) => Array.from({ length: count }, (_, index) => index + 1);

/** What all questions that are not local go to in the end. */
export function startOutside(rig, namespace) {
  rig.run("ip", ["-n", namespace, "addr", "add", "10.9.0.1/32", "dev", "lo"]);
  return rig.start(namespace, "dnsmasq", [
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
}

/** One attachment for each name: the addresses are nobody's, the sockets one pair. */
async function netctl(rig, namesCount) {
  for (const index of numbers(namesCount))
    rig.attach(index, `name${index}.bench`, { namespace: rig.inside, ifName: `n${index}` });
  return { address: "127.0.0.11", pid: rig.netdPid(), asking: inContainer(rig), forwards: true };
}

async function dnsmasq(rig, namesCount) {
  const lines = numbers(namesCount).map((index) => `${addressOf(index)} name${index}.bench name${index}\n`);
  writeFileSync(rig.at("hosts"), lines.join(""));
  const { pid } = rig.start(rig.inside, "dnsmasq", [
    "--no-daemon",
    "--conf-file=/dev/null",
    "--no-resolv",
    "--no-hosts",
    `--addn-hosts=${rig.at("hosts")}`,
    "--server=10.9.0.1",
    "--listen-address=127.0.0.21",
    "--bind-interfaces",
    "--cache-size=10000",
    "--local-ttl=5",
    "--user=root",
    "--dns-forward-max=1000",
  ]);
  return { address: "127.0.0.21", pid, asking: inContainer(rig), forwards: true };
}

async function unbound(rig, namesCount) {
  const localData = numbers(namesCount).map(
    (index) => `  local-data: "name${index}.bench. 5 IN A ${addressOf(index)}"`,
  );
  writeFileSync(
    rig.at("unbound.conf"),
    [
      "server:",
      "  interface: 127.0.0.22",
      "  do-daemonize: no",
      '  username: ""',
      '  chroot: ""',
      `  directory: "${rig.scratch}"`,
      `  pidfile: "${rig.at("unbound.pid")}"`,
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
  const { pid } = rig.start(rig.inside, "unbound", ["-d", "-c", rig.at("unbound.conf")]);
  return { address: "127.0.0.22", pid, asking: inContainer(rig), forwards: true };
}

/** It asks whom /etc/resolv.conf names, and nobody else. */
async function aardvark(rig, namesCount) {
  const file = ["/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"].find((each) =>
    existsSync(each),
  );
  if (!file) return undefined;
  const folder = rig.at("aardvark");
  mkdirSync(folder);
  const lines = numbers(namesCount).map(
    (index) => `id${index} ${addressOf(index)}  name${index},name${index}.bench`,
  );
  writeFileSync(`${folder}/bench`, `127.0.0.23\n${lines.join("\n")}\nself 127.0.0.23  self\n`);
  rig.start(rig.inside, file, ["--config", folder, "-p", "53", "run"]);
  await sleep(500);
  const pid = Number(readFileSync(`${folder}/aardvark.pid`, "utf8"));
  rig.adopt(pid);
  return { address: "127.0.0.23", pid, asking: inContainer(rig), forwards: false };
}

/**
 * dockerd as Debian has it (`docker.io`; not installed for this: that would start it on the machine). In namespaces of
 * its own for network, mounts and processes, with its own data: nothing of it is left when the first process ends. One
 * container of its network has all names, another asks.
 */
async function dockerd(rig, namesCount) {
  if (!["/usr/sbin/dockerd", "/usr/bin/docker", "/bin/busybox"].every((file) => existsSync(file)))
    return undefined;
  const docker = `${rig.tag}-docker`;
  rig.makeNamespace(docker);
  startOutside(rig, docker);
  const socket = `unix://${rig.at("docker.sock")}`;
  writeFileSync(rig.at("docker.json"), "{}");
  const command = [
    `exec /usr/sbin/dockerd --config-file=${rig.at("docker.json")} --storage-driver=vfs --userland-proxy=false`,
    `--dns=10.9.0.1 --data-root=${rig.at("docker")} --exec-root=/run/docker --pidfile=/run/docker.pid`,
    `--host=${socket} --exec-opt=native.cgroupdriver=cgroupfs --cgroup-parent=/${docker} --bip=10.210.0.1/24`,
    `2> ${rig.at("dockerd.log")}`,
  ].join(" ");
  const apart = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"];
  const outer = rig.start(docker, "unshare", [
    ...apart,
    "sh",
    "-ec",
    `mount -t tmpfs tmpfs /run; ${command}`,
  ]);
  for (let tries = 0; !existsSync(rig.at("docker.sock")); tries++) {
    if (tries === 600 || outer.exitCode !== null)
      throw new Error(`dockerd does not start: ${rig.at("dockerd.log")}`);
    await sleep(50);
  }
  const pid = Number(readFileSync(`/proc/${outer.pid}/task/${outer.pid}/children`, "utf8"));
  const client = (...args) => rig.run("docker", ["--host", socket, ...args]);
  mkdirSync(rig.at("image/bin"), { recursive: true });
  copyFileSync("/bin/busybox", rig.at("image/bin/busybox"));
  rig.run("tar", ["-C", rig.at("image"), "-cf", rig.at("image.tar"), "."]);
  client("import", rig.at("image.tar"), "bench");
  client("network", "create", "--subnet", "10.211.0.0/24", "bench");
  const container = (...extra) => {
    const words = [
      "run",
      "--detach",
      "--network",
      "bench",
      ...extra,
      "bench",
      "/bin/busybox",
      "sleep",
      "1000",
    ];
    return client(...words).trim();
  };
  container(...numbers(namesCount).map((index) => `--network-alias=name${index}`));
  const asker = client("inspect", "--format", "{{.State.Pid}}", container()).trim();
  // Numbers of processes are those of dockerd's namespace.
  const there = ["nsenter", "--target", String(pid), "--mount", "--pid", "--"];
  const stop = async () => {
    process.kill(pid, "SIGKILL");
    while (outer.exitCode === null && outer.signalCode === null) await sleep(20);
    removeGroups(rig, docker);
  };
  const asking = [...there, "nsenter", "--target", asker, "--net", "--"];
  return { address: "127.0.0.11", pid, asking, forwards: true, stop };
}

/** The cgroups that dockerd has made, of whatever version. */
function removeGroups(rig, name) {
  const out = rig.run("find", ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", `*/${name}*`]);
  for (const path of out.split("\n").filter(Boolean)) {
    try {
      rmdirSync(path);
    } catch {
      // Somebody is still ending in it.
    }
  }
}

/** By name: each starts one, for 1,000 names or as many as are asked for. */
export const servers = { netctl, dnsmasq, unbound, "aardvark-dns": aardvark, dockerd };
