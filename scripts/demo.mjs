// Two networks, three sandboxes and an outside host, in namespaces that this makes and removes.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pc from "picocolors";

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = join(root, "dist/bin");
const scratch = mkdtempSync(join(tmpdir(), "netctl-demo-"));
const tag = `netctl-demo-${process.pid}`;
const host = `${tag}-host`;
const outside = `${tag}-outside`;
const environment = {
  PATH: process.env.PATH,
  NETCTL_CONF_DIR: join(scratch, "conf"),
  NETCTL_BIN_DIR: bin,
  NETCTL_STATE_DIR: join(scratch, "state"),
  NETCTL_RUN_DIR: join(scratch, "run"),
  NETCTL_STANDALONE: "1",
  NETCTL_NETD_CGROUP: "none",
  ...(pc.isColorSupported ? { FORCE_COLOR: "1" } : {}),
};
const cleanups = [];

class Stop extends Error {}

/** Runs a command; its output, or the end of the demo. */
function run(command, ...args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    env: environment,
    timeout: 60_000,
  });
  if (error) throw new Stop(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Stop(`${command} ${args.join(" ")}\n${stdout}${stderr}`);
  return stdout.trimEnd();
}

/** A command in the demo's own host, shown as a user would type it. */
function show(...words) {
  console.log(pc.dim("  $ ") + pc.bold(words.join(" ")));
  const [program, ...args] = words;
  const file = program === "netctl" ? join(bin, "netctl") : program;
  const output = run("nsenter", `--net=/run/netns/${host}`, "--", file, ...args);
  if (output) console.log(output.replace(/^/gm, "    "));
  return output;
}

function title(text) {
  console.log(`\n${pc.cyan(pc.bold(text))}`);
}

function makeHosts() {
  for (const name of [host, outside]) {
    run("ip", "netns", "add", name);
    cleanups.push(() => spawnSync("ip", ["netns", "delete", name]));
  }
  run("ip", "-n", host, "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", outside);
  for (const [name, link, address] of [
    [host, "uplink", "203.0.113.1/24"],
    [outside, "eth0", "203.0.113.2/24"],
  ]) {
    run("ip", "-n", name, "link", "set", "lo", "up");
    run("ip", "-n", name, "addr", "add", address, "dev", link);
    run("ip", "-n", name, "link", "set", link, "up");
  }
}

/** A server outside that tells each caller under which address it arrived. */
async function startOutsideServer() {
  const program = `require("net").createServer((s) => s.end("you are " + s.remoteAddress)).listen(8080, "203.0.113.2", () => console.log("up"))`;
  const child = spawn("nsenter", [`--net=/run/netns/${outside}`, "--", process.execPath, "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
    env: environment,
  });
  cleanups.push(() => child.kill("SIGKILL"));
  await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", () => reject(new Stop("the outside server did not start")));
  });
}

function expect(what, isTrue) {
  if (!isTrue) throw new Stop(`Expected ${what}`);
  console.log(`    ${pc.green("✓")} ${what}`);
}

async function demo() {
  const started = Date.now();
  for (const folder of ["conf", "state", "run"]) mkdirSync(join(scratch, folder), { mode: 0o700 });
  title("A host of our own (203.0.113.1), and another machine outside (203.0.113.2)");
  makeHosts();
  await startOutsideServer();
  console.log("    two network namespaces with a wire between them; nothing on this machine changes");

  title("A network is a conflist: any CNI runtime can use it");
  show("netctl", "network", "create", "web", "--subnet", "10.77.0.0/24");
  show("netctl", "network", "ls");

  title("Two sandboxes join it");
  show("netctl", "sandbox", "create", "alice", "--network", "web");
  show("netctl", "sandbox", "create", "bob", "--network", "web");

  title("They reach each other, the gateway, and the outside, masqueraded");
  const ping = (target) =>
    show("netctl", "sandbox", "exec", "alice", "--", "ping", "-c", "1", "-W", "2", target);
  expect("alice reaches bob", ping("10.77.0.3").includes(" 0% packet loss"));
  expect("alice reaches the gateway", ping("10.77.0.1").includes(" 0% packet loss"));
  const client = `require("net").connect(8080, "203.0.113.2").pipe(process.stdout)`;
  const answer = show("netctl", "sandbox", "exec", "alice", "--", process.execPath, "-e", client);
  expect("the outside host sees alice under the host's address", answer.includes("you are 203.0.113.1"));

  title("They find each other by name; a third, in another network, finds neither");
  const lookUp = (from, name) =>
    show(
      "netctl",
      "sandbox",
      "exec",
      from,
      "--",
      "sh",
      "-c",
      `getent hosts ${name} || echo "${name}: not found"`,
    );
  expect("alice finds bob", lookUp("alice", "bob").startsWith("10.77.0.3"));
  expect("bob finds alice by the network's name, too", lookUp("bob", "alice.web").startsWith("10.77.0.2"));
  show("netctl", "network", "create", "apart", "--internal", "--subnet", "10.78.0.0/24");
  show("netctl", "sandbox", "create", "carol", "--network", "apart");
  expect("carol does not find alice", lookUp("carol", "alice").includes("not found"));
  show("netctl", "dns", "query", "--from", "alice", "bob");

  title("What netctl sees");
  show("netctl", "inspect");

  title("Clean up");
  show("netctl", "sandbox", "rm", "alice", "bob", "carol");
  show("netctl", "network", "rm", "web", "apart");
  const links = JSON.parse(run("ip", "-n", host, "-j", "link")).map((link) => link.ifname);
  expect(`nothing is left but what was there: ${links.join(", ")}`, links.sort().join() === "lo,uplink");
  console.log(`\n${pc.green("Done")} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

/** Names are answered by netd, which was started for them. */
function stopNetd() {
  for (const file of readdirSync(join(scratch, "run"))) {
    const pid = file.endsWith(".lock") ? Number(readFileSync(join(scratch, "run", file), "utf8")) : 0;
    if (!(pid > 0)) continue;
    process.kill(pid, "SIGTERM");
    for (let tries = 0; existsSync(`/proc/${pid}`) && tries < 100; tries++) spawnSync("sleep", ["0.05"]);
  }
}

function cleanUp() {
  stopNetd();
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
  // Sandboxes are bind mounts below the run directory.
  for (const line of run("cat", "/proc/self/mounts").split("\n")) {
    const path = line.split(" ")[1] ?? "";
    if (path.startsWith(`${scratch}/`)) spawnSync("umount", ["-l", path]);
  }
  rmSync(scratch, { recursive: true, force: true });
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    cleanUp();
    process.exit(1);
  });
}
try {
  await demo();
} catch (error) {
  console.error(error instanceof Stop ? pc.red(error.message) : error);
  process.exitCode = 1;
} finally {
  cleanUp();
}
