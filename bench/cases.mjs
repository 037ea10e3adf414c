// What is measured. A case is a conflist, the same for ours and the peer, and how it is driven.

const routes = [{ dst: "0.0.0.0/0" }];
const uplink = "bench-up";
const published = { portMappings: [{ hostPort: "{port}", containerPort: 80, protocol: "tcp" }] };

function leasesOf(leases, subnet) {
  return { type: "host-local", dataDir: leases, ranges: [[{ subnet }]], routes };
}

function bridge(leases, { name, subnet, ...more }) {
  return { type: "bridge", bridge: name, isGateway: true, ...more, ipam: leasesOf(leases, subnet) };
}

/** No two of them make a range: each port is an element, or a rule, of its own. */
const thousandPorts = {
  portMappings: Array.from({ length: 1000 }, (_, index) => ({
    hostPort: 20_000 + index,
    containerPort: 80 + ((index * 7) % 50),
  })),
};
const portRange = {
  portMappings: Array.from({ length: 1000 }, (_, index) => ({
    hostPort: 20_000 + index,
    containerPort: 20_000 + index,
  })),
};
const tenPorts = {
  portMappings: Array.from({ length: 10 }, (_, digit) => ({
    hostPort: `{ten}${digit}`,
    containerPort: 80 + ((digit * 7) % 10),
    protocol: "tcp",
  })),
};

const list = (name, plugins) => ({ cniVersion: "1.0.0", name, plugins });

const conflists = {
  loopback: () => list("bench-loopback", [{ type: "loopback" }]),
  bridge: (leases) => list("bench-bridge", [bridge(leases, { name: "bench0", subnet: "10.61.0.0/16" })]),
  // STATUS came with version 1.1.0, which Debian's plugins do not know.
  status: (leases) => ({ ...conflists.bridge(leases), cniVersion: "1.1.0" }),
  masq: (leases) =>
    list("bench-masq", [bridge(leases, { name: "bench0", subnet: "10.62.0.0/16", ipMasq: true })]),
  chain: (leases) =>
    list("bench-chain", [
      bridge(leases, { name: "bench0", subnet: "10.63.0.0/16", ipMasq: true, hairpinMode: true }),
      { type: "portmap", capabilities: { portMappings: true } },
      { type: "firewall" },
      { type: "tuning", sysctl: { "net.core.somaxconn": "500" } },
    ]),
  ptp: (leases) => list("bench-ptp", [{ type: "ptp", ipMasq: true, ipam: leasesOf(leases, "10.65.0.0/16") }]),
  macvlan: (leases) =>
    list("bench-macvlan", [{ type: "macvlan", master: uplink, ipam: leasesOf(leases, "10.67.0.0/16") }]),
  tuning: (leases) =>
    list("bench-tuning", [
      bridge(leases, { name: "bench0", subnet: "10.68.0.0/16" }),
      { type: "tuning", sysctl: { "net.core.somaxconn": "500" }, mtu: 1400 },
    ]),
  bandwidth: (leases) =>
    list("bench-bandwidth", [
      bridge(leases, { name: "bench0", subnet: "10.69.0.0/16" }),
      {
        type: "bandwidth",
        ingressRate: 100_000_000,
        ingressBurst: 1_000_000,
        egressRate: 100_000_000,
        egressBurst: 1_000_000,
      },
    ]),
  ports: (leases) =>
    list("bench-ports", [
      bridge(leases, { name: "bench0", subnet: "10.64.0.0/16", ipMasq: true }),
      { type: "portmap", capabilities: { portMappings: true } },
    ]),
  // A Linux bridge takes 1,023 ports, so more containers need several networks.
  many: (leases) =>
    list("bench-masq-{thousand}", [
      bridge(leases, { name: "bench{thousand}", subnet: "10.{thousand}.0.0/16", ipMasq: true }),
    ]),
};

const all = ["ours", "standalone", "peer", "floor"];
const warm = ["ours", "peer", "floor"];
/** What no floor was written for. */
const plugins = ["ours", "standalone", "peer"];

/**
 * title; conflist; floor: which kernel work is its limit; executables: what a subject must have; subjects;
 * mode "pairs" (ADD and DEL one at a time, the kernel at rest before each), "chase" (one at a time, no rest),
 * "burst" (`parallel` at a time), or "probe" (`verb`); existing: containers that are there meanwhile; full: only with
 * --full; uplink: a link that its host has; count and block: how many calls, where the case says it and not the command line.
 */
function build(name, conflist, more) {
  const made = conflists[conflist]("");
  const executables = made.plugins.flatMap((plugin) => [
    plugin.type,
    ...(plugin.ipam ? [plugin.ipam.type] : []),
  ]);
  const values = executables.includes("portmap") ? published : {};
  return {
    name,
    conflist: conflists[conflist],
    plugins: made.plugins.map(({ type }) => type),
    runtimeValues: values,
    executables,
    floor: conflist,
    mode: "pairs",
    existing: 0,
    subjects: all,
    full: false,
    interfaceName: conflist === "loopback" ? "lo" : "eth0",
    ...more,
  };
}

const titles = {
  bridge: "bridge + host-local",
  masq: "the same, ipMasq",
  chain: "bridge (ipMasq) + portmap + firewall + tuning",
};
const existing = (conflist, count) =>
  build(`${conflist}-${count}`, conflist, {
    title: `${conflist === "masq" ? "bridge + host-local, ipMasq" : titles[conflist]}; ${count.toLocaleString("en")} containers there`,
    existing: count,
    subjects: warm,
    full: true,
  });

export const cases = [
  build("version", "bridge", { title: "VERSION of bridge", mode: "probe", verb: "VERSION", subjects: warm }),
  build("status", "status", {
    title: "STATUS of bridge",
    mode: "probe",
    verb: "STATUS",
    subjects: ["ours", "standalone"],
  }),
  build("loopback", "loopback", { title: "loopback" }),
  build("bridge", "bridge", { title: titles.bridge }),
  build("masq", "masq", { title: titles.masq }),
  build("chain", "chain", { title: titles.chain }),
  build("ptp", "ptp", { title: "ptp (ipMasq) + host-local", subjects: plugins }),
  build("macvlan", "macvlan", { title: "macvlan + host-local", subjects: plugins, uplink }),
  build("tuning", "tuning", { title: "bridge + host-local + tuning: a sysctl, the MTU", subjects: plugins }),
  build("bandwidth", "bandwidth", {
    title: "bridge + host-local + bandwidth: both directions",
    subjects: plugins,
  }),
  build("masq-chase", "masq", {
    title: "bridge + host-local, ipMasq; no rest between calls",
    mode: "chase",
    subjects: warm,
  }),
  build("masq-16", "masq", {
    title: "bridge + host-local, ipMasq; 16 in parallel",
    mode: "burst",
    parallel: 16,
    subjects: warm,
  }),
  build("chain-16", "chain", {
    title: `${titles.chain}; 16 in parallel`,
    mode: "burst",
    parallel: 16,
    subjects: warm,
  }),
  build("ports-1000", "ports", {
    title: "bridge (ipMasq) + portmap: 1,000 ports in one ADD",
    runtimeValues: thousandPorts,
    // The peer starts iptables several times for each port, and would take minutes to warm up.
    subjects: ["ours", "standalone"],
    full: true,
  }),
  build("ports-range", "ports", {
    title: "the same, as one range of 1,000 that keeps its numbers",
    runtimeValues: portRange,
    subjects: ["ours", "standalone"],
    full: true,
  }),
  build("ports-first", "ports", {
    title: "bridge (ipMasq) + portmap: 10 ports; nothing else there",
    runtimeValues: tenPorts,
    subjects: ["ours", "standalone"],
    full: true,
  }),
  build("ports-10000", "ports", {
    title: "the same; 1,000 containers with 10 ports each there",
    runtimeValues: tenPorts,
    subjects: ["ours"],
    existing: 1000,
    full: true,
  }),
  ...["bridge", "masq", "chain"].flatMap((conflist) =>
    [10, 200, 1000].map((count) => existing(conflist, count)),
  ),
  build("endurance", "masq", {
    title: "bridge + host-local, ipMasq; thousands of times, 4 in parallel",
    mode: "burst",
    parallel: 4,
    count: 20_000,
    block: 500,
    subjects: ["ours"],
    full: true,
  }),
  // The new ones are on a bridge of their own: what grows here grows with the host, not with the bridge.
  ...[
    ["many-10", 10, "10 containers there on another bridge"],
    ["many-5000", 5000, "5,000 containers there on 5 other bridges"],
  ].map(([name, count, where]) =>
    build(name, "many", {
      title: `bridge + host-local, ipMasq; ${where}`,
      existing: count,
      subjects: ["ours", "floor"],
      full: true,
    }),
  ),
];
