// Three hosts and a three-member etcd, in namespaces that this makes and removes: a network over all of them, which goes
// on while members of both are dead; and an encrypted one beside it.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import pc from "picocolors";
import { Stage } from "./demo-stage.mjs";

const stage = new Stage();
const hosts = [1, 2, 3];
const names = new Map();
const netds = new Map();
const members = new Map();
const endpoints = hosts.map((number) => `http://203.0.113.${100 + number}:2379`);

const environment = (number) => ({
  PATH: process.env.PATH,
  NETCTL_CONF_DIR: join(stage.scratch, `h${number}/conf`),
  NETCTL_BIN_DIR: stage.bin,
  NETCTL_STATE_DIR: join(stage.scratch, `h${number}/state`),
  NETCTL_RUN_DIR: join(stage.scratch, `h${number}/run`),
  NETCTL_LOG_FILE: join(stage.scratch, `h${number}/netd.log`),
  NETCTL_NETD: "never",
  ...(pc.isColorSupported ? { FORCE_COLOR: "1" } : {}),
});
const show = (number, ...words) =>
  stage.show(names.get(number), `h${number}`, words, { env: environment(number) });
const quietly = (number, ...words) =>
  stage.run("nsenter", [`--net=/run/netns/${names.get(number)}`, "--", join(stage.bin, "netctl"), ...words], {
    env: environment(number),
  });

function makeHosts() {
  const wire = stage.host("wire");
  names.set("wire", wire);
  stage.run("ip", ["-n", wire, "link", "add", "wire", "type", "bridge"]);
  stage.run("ip", ["-n", wire, "link", "set", "wire", "up"]);
  const join = (name, address, port) => {
    stage.run("ip", ["-n", wire, "link", "add", port, "type", "veth", "peer", "name", "up0", "netns", name]);
    stage.run("ip", ["-n", wire, "link", "set", port, "master", "wire", "up"]);
    stage.run("ip", ["-n", name, "address", "add", address, "dev", "up0"]);
    stage.run("ip", ["-n", name, "link", "set", "up0", "up"]);
    stage.run("ip", ["-n", name, "route", "add", "default", "dev", "up0"]);
  };
  for (const number of hosts) {
    const host = stage.host(`h${number}`);
    names.set(number, host);
    join(host, `203.0.113.${number}/24`, `h${number}`);
    const etcd = stage.host(`etcd${number}`);
    join(etcd, `203.0.113.${100 + number}/24`, `e${number}`);
    members.set(number, startMember(number, etcd));
  }
}

function startMember(number, namespace) {
  const at = (port) => `http://203.0.113.${100 + number}:${port}`;
  const cluster = hosts.map((each) => `m${each}=http://203.0.113.${100 + each}:2380`).join(",");
  const words = [
    ["--name", `m${number}`, "--data-dir", join(stage.scratch, `etcd${number}`)],
    ["--listen-client-urls", at(2379), "--advertise-client-urls", at(2379)],
    ["--listen-peer-urls", at(2380), "--initial-advertise-peer-urls", at(2380)],
    ["--initial-cluster", cluster, "--logger", "zap", "--log-level", "error"],
  ];
  return stage.start(namespace, "etcd", words.flat());
}

function startNetd(number) {
  mkdirSync(join(stage.scratch, `h${number}/run`), { recursive: true, mode: 0o700 });
  const netd = stage.start(names.get(number), process.execPath, [join(stage.lib, "netd.cjs")], {
    env: environment(number),
  });
  netds.set(number, netd);
}

/** The address of a sandbox that was created just now. */
function create(number, sandbox, network) {
  show(number, "netctl", "sandbox", "create", sandbox, "--network", network);
  const { sandboxes } = JSON.parse(quietly(number, "inspect", sandbox, "--json"));
  const [address] = sandboxes[0].links.find((link) => link.name === "eth0").addresses;
  return address.split("/")[0];
}

/** What pings carry that are captured: whoever can read the wire reads it. */
const message = "netctl-demo-text";

/** Pings once while the wire is listened to; how many packets were heard, and how many of them can be read. */
async function overhear(sandbox, target) {
  const file = join(stage.scratch, `${sandbox}.pcap`);
  const words = ["-Z", "root", "--immediate-mode", "-U", "-i", "h1", "-w", file];
  const listener = stage.start(names.get("wire"), "tcpdump", words);
  // The header is written when it listens.
  await stage.until("the wire is listened to", () => existsSync(file) && statSync(file).size >= 24);
  const pattern = Buffer.from(message).toString("hex");
  show(1, "netctl", "sandbox", "exec", sandbox, "--", "ping", "-c", "1", "-p", pattern, target);
  const read = () => stage.run("tcpdump", ["-n", "-A", "-q", "-r", file, "udp port 4789 or udp port 51842"]);
  await stage.until("question and answer were heard", () => (read().match(/UDP, length/g) ?? []).length >= 2);
  listener.kill("SIGKILL");
  const lines = read().split("\n");
  for (const line of lines.filter((each) => each.includes("UDP, length"))) stage.say(pc.dim(line));
  return lines.some((line) => line.includes(message));
}

function ping(number, from, target) {
  const output = show(number, "netctl", "sandbox", "exec", from, "--", "ping", "-c", "1", "-W", "2", target);
  return output.includes(" 0% packet loss");
}

function serves(number) {
  try {
    quietly(number, "dns", "ls");
    return true;
  } catch {
    return false;
  }
}

/** Names of other hosts come within a moment of their containers. */
function knows(number, from, name, address) {
  const words = ["sandbox", "exec", from, "--", "dig", "+short", "@127.0.0.11", name];
  return quietly(number, ...words).trim() === address;
}

await stage.play(async () => {
  stage.title("Three hosts on one wire, and a three-member etcd beside them");
  makeHosts();
  // A process that is a WireGuard device keeps its namespace, and ends with the device.
  const devices = "for each in /sys/class/net/nx*; do [ -e $each ] && ip link delete ${each##*/}; done";
  for (const number of hosts)
    stage.atEnd(() => spawnSync("ip", ["netns", "exec", names.get(number), "sh", "-c", devices]));
  for (const number of hosts) startNetd(number);
  await stage.until("etcd has a leader", () => {
    try {
      quietly(1, "cluster", "init", ...endpoints.flatMap((each) => ["--etcd", each]), "--host-name", "h1");
      return true;
    } catch {
      return false;
    }
  });
  const flags = endpoints.flatMap((each) => ["--etcd", each]);
  for (const number of [2, 3])
    show(number, "netctl", "cluster", "join", ...flags, "--host-name", `h${number}`);
  await stage.until("every host is live", () => {
    const listed = JSON.parse(quietly(1, "cluster", "host", "ls", "--json"));
    return listed.length === 3 && listed.every((each) => each.isLive);
  });
  show(1, "netctl", "cluster", "host", "ls");

  stage.title("A network is created on one host, and is on all");
  show(1, "netctl", "network", "create", "-d", "overlay-vxlan", "web");
  for (const number of hosts)
    await stage.until(`host ${number} has it`, () => quietly(number, "network", "ls").includes(" web "));
  const [, , far] = hosts.map((number) => create(number, `s${number}`, "web"));
  stage.expect("s1 on h1 reaches s3 on h3", ping(1, "s1", far));
  stage.expect("s2 on h2 reaches s3 on h3", ping(2, "s2", far));

  stage.title("They find each other by name, on whichever host they are");
  await stage.until("s1 has heard of s3", () => knows(1, "s1", "s3", far));
  stage.expect("s1 on h1 finds s3 on h3 by its name", knows(1, "s1", "s3", far));
  show(1, "netctl", "sandbox", "exec", "s1", "--", "dig", "+short", "@127.0.0.11", "s3", "s2.web");

  stage.title("A member of etcd is killed");
  members.get(1).kill("SIGKILL");
  stage.expect("containers do not notice", ping(1, "s1", far));
  show(2, "netctl", "network", "create", "-d", "overlay-vxlan", "second");
  stage.expect("and networks are created as before", quietly(2, "network", "ls").includes("second"));

  stage.title("netd of h3 is killed");
  netds.get(3).kill("SIGKILL");
  stage.expect("containers do not notice", ping(1, "s1", far));
  startNetd(3);
  await stage.until("it serves again", () => serves(3));
  stage.expect("a new one on h3 is reached at once", ping(1, "s1", create(3, "s4", "web")));

  stage.title("What the hosts know");
  show(1, "ip", "route", "show", "proto", "201");
  show(1, "netctl", "cluster", "host", "ls");

  stage.title("An encrypted network beside it, and who listens to the wire");
  show(1, "netctl", "network", "create", "-d", "overlay-vxlan", "--opt", "encrypted", "secret");
  for (const number of [1, 2])
    await stage.until(`host ${number} has it`, () => quietly(number, "network", "ls").includes(" secret "));
  const [, hidden] = [1, 2].map((number) => create(number, `e${number}`, "secret"));
  await stage.until("e1 reaches e2", () => {
    try {
      return ping(1, "e1", hidden);
    } catch {
      return false;
    }
  });
  stage.expect("what s1 says to s3 can be read", await overhear("s1", far));
  stage.expect("what e1 says to e2 can not", !(await overhear("e1", hidden)));

  stage.title("Clean up");
  for (const [number, ...sandboxes] of [
    [1, "s1", "e1"],
    [2, "s2", "e2"],
    [3, "s3", "s4"],
  ])
    show(number, "netctl", "sandbox", "rm", ...sandboxes);
  show(1, "netctl", "network", "rm", "web", "second", "secret");
});
