// Makes a fresh machine ready for a task: `node scripts/ready.mjs test|demo|bench|overlay|vm`. Uses nothing but Node itself.
// Debian packages that are missing are installed when root, else one line says what to install; then npm
// packages, then the build, each only if it is missing or older than what it comes from.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ensureKernel } from "./vm/kernel-image.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Debian packages by task, each with a file that shows it is there. */
const base = {
  iproute2: ["/sbin/ip", "/usr/sbin/ip", "/bin/ip"],
  nftables: ["/usr/sbin/nft", "/sbin/nft"],
  "iputils-ping": ["/bin/ping", "/usr/bin/ping"],
  "util-linux": ["/usr/bin/nsenter"],
  gcc: ["/usr/bin/cc", "/usr/bin/gcc", "/usr/local/bin/cc"],
  "libc6-dev": ["/usr/include/stdio.h"],
};
const packages = {
  demo: base,
  overlay: {
    ...base,
    "etcd-server": ["/usr/bin/etcd"],
    "bind9-dnsutils": ["/usr/bin/dig"],
    "wireguard-go": ["/usr/bin/wireguard-go"],
    tcpdump: ["/usr/bin/tcpdump", "/usr/sbin/tcpdump"],
  },
  test: {
    ...base,
    iptables: ["/usr/sbin/iptables", "/sbin/iptables"],
    conntrack: ["/usr/sbin/conntrack"],
    tcpdump: ["/usr/bin/tcpdump", "/usr/sbin/tcpdump"],
    "busybox-static": ["/bin/busybox", "/usr/bin/busybox"],
    "bind9-dnsutils": ["/usr/bin/dig"],
    "dnsmasq-base": ["/usr/sbin/dnsmasq"],
    "isc-dhcp-server": ["/usr/sbin/dhcpd"],
    "containernetworking-plugins": ["/usr/lib/cni/bridge"],
    "etcd-server": ["/usr/bin/etcd"],
    "etcd-client": ["/usr/bin/etcdctl"],
    "wireguard-go": ["/usr/bin/wireguard-go"],
    "dbus-daemon": ["/usr/bin/dbus-daemon"],
    firewalld: ["/usr/sbin/firewalld"],
    containerd: ["/usr/bin/containerd"],
    runc: ["/usr/sbin/runc", "/usr/bin/runc"],
  },
  bench: {
    ...base,
    "bind9-dnsutils": ["/usr/bin/dig"],
    dnsperf: ["/usr/bin/dnsperf"],
    "dnsmasq-base": ["/usr/sbin/dnsmasq"],
    unbound: ["/usr/sbin/unbound"],
    "aardvark-dns": ["/usr/lib/podman/aardvark-dns"],
  },
  ui: { ...base, chromium: ["/usr/bin/chromium"] },
  vm: {
    ...base,
    iptables: ["/usr/sbin/iptables", "/sbin/iptables"],
    conntrack: ["/usr/sbin/conntrack"],
    tcpdump: ["/usr/bin/tcpdump", "/usr/sbin/tcpdump"],
    "busybox-static": ["/bin/busybox", "/usr/bin/busybox"],
    "bind9-dnsutils": ["/usr/bin/dig"],
    "dnsmasq-base": ["/usr/sbin/dnsmasq"],
    "etcd-server": ["/usr/bin/etcd"],
    "wireguard-tools": ["/usr/bin/wg"],
    "qemu-system-x86": ["/usr/bin/qemu-system-x86_64"],
    kmod: ["/sbin/depmod", "/usr/sbin/depmod"],
  },
};

function fail(line) {
  console.error(line);
  process.exit(1);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, {
    stdio: ["ignore", "inherit", "inherit"],
    cwd: root,
    ...options,
  });
  if (error) fail(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) fail(`Cannot get ready: "${command} ${args.join(" ")}" exited with ${status}`);
}

function installPackages(task) {
  const missing = Object.entries(
    packages[task] ?? fail(`Cannot get ready for "${task}": expected test, demo, bench, overlay or vm`),
  )
    .filter(([, files]) => !files.some((file) => existsSync(file)))
    .map(([name]) => name);
  if (missing.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${missing.join(" ")}`;
  if (process.getuid() !== 0 || !existsSync("/usr/bin/apt-get"))
    fail(`Missing programs; install them first: ${command}`);
  console.error(`Installing Debian packages: ${missing.join(" ")}`);
  // A package that brings a service (containerd) must not start it: nothing here needs it running.
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const quiet = { env: environment, stdio: ["ignore", "ignore", "inherit"] };
    run("apt-get", ["update", "-qq"], quiet);
    run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...missing], quiet);
    // Nor at the next boot: a firewall would change what the machine lets in.
    if (missing.includes("firewalld"))
      rmSync("/etc/systemd/system/multi-user.target.wants/firewalld.service", { force: true });
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
}

const time = (file) => (existsSync(join(root, file)) ? statSync(join(root, file)).mtimeMs : 0);

function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) latest = Math.max(latest, newest(path));
    else if (/\.(ts|mjs|c|h|S|json)$/.test(entry.name)) latest = Math.max(latest, time(path));
  }
  return latest;
}

function installNpmPackages() {
  if (time("node_modules/.package-lock.json") >= time("package-lock.json") && time("package-lock.json") > 0)
    return;
  console.error("Installing npm packages");
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
}

function buildIfStale() {
  const folders = readdirSync(root, { withFileTypes: true })
    .filter(
      (entry) =>
        entry.isDirectory() &&
        !["node_modules", "dist", "docs"].includes(entry.name) &&
        !entry.name.startsWith("."),
    )
    .map((entry) => entry.name);
  const sources = Math.max(time("package-lock.json"), ...folders.map(newest));
  if (time("dist/.built") >= sources) return;
  console.error("Building");
  run(process.execPath, ["scripts/build.mjs"]);
}

/** A kernel and its modules for the VM, from a Debian package that is unpacked and not installed. */
function unpackKernel() {
  try {
    ensureKernel();
  } catch (error) {
    fail(error.message);
  }
}

const task = process.argv[2] ?? "test";
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 11))
  fail(`Node ${process.versions.node} is too old: 20.11 or newer is needed`);
if (process.platform !== "linux") fail(`Cannot run on ${process.platform}: network namespaces need Linux`);
if (process.getuid() !== 0) fail("Root is needed to make network namespaces; run the same command with sudo");
installPackages(task);
if (task === "vm") unpackKernel();
installNpmPackages();
buildIfStale();
