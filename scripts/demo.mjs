// Two networks, three sandboxes and an outside host, in namespaces that this makes and removes.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import pc from "picocolors";
import { Stage, Stop } from "./demo-stage.mjs";

const stage = new Stage();
const host = stage.host("host");
const outside = stage.host("outside");
const environment = {
  PATH: process.env.PATH,
  NETCTL_CONF_DIR: join(stage.scratch, "conf"),
  NETCTL_BIN_DIR: stage.bin,
  NETCTL_STATE_DIR: join(stage.scratch, "state"),
  NETCTL_RUN_DIR: join(stage.scratch, "run"),
  NETCTL_STANDALONE: "1",
  NETCTL_NETD_CGROUP: "none",
  ...(pc.isColorSupported ? { FORCE_COLOR: "1" } : {}),
};

/** A command in the demo's own host, shown as a user would type it. */
const show = (...words) => stage.show(host, "", words, { env: environment });

function joinHosts() {
  stage.run("ip", [
    "-n",
    host,
    "link",
    "add",
    "uplink",
    "type",
    "veth",
    "peer",
    "name",
    "eth0",
    "netns",
    outside,
  ]);
  for (const [name, link, address] of [
    [host, "uplink", "203.0.113.1/24"],
    [outside, "eth0", "203.0.113.2/24"],
  ]) {
    stage.run("ip", ["-n", name, "addr", "add", address, "dev", link]);
    stage.run("ip", ["-n", name, "link", "set", link, "up"]);
  }
}

/** A server outside that tells each caller under which address it arrived. */
async function startOutsideServer() {
  const program = `require("net").createServer((s) => s.end("you are " + s.remoteAddress)).listen(8080, "203.0.113.2", () => console.log("up"))`;
  const options = { stdio: ["ignore", "pipe", "inherit"], env: environment };
  const child = stage.start(outside, process.execPath, ["-e", program], options);
  await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", () => reject(new Stop("the outside server did not start")));
  });
}

/** Names are answered by netd, which was started for them. */
function stopNetd() {
  const run = join(stage.scratch, "run");
  for (const file of existsSync(run) ? readdirSync(run) : []) {
    const pid = file.endsWith(".lock") ? Number(readFileSync(join(run, file), "utf8")) : 0;
    if (!(pid > 0)) continue;
    process.kill(pid, "SIGTERM");
    for (let tries = 0; existsSync(`/proc/${pid}`) && tries < 100; tries++) spawnSync("sleep", ["0.05"]);
  }
}

await stage.play(async () => {
  stage.atEnd(stopNetd);
  for (const folder of ["conf", "state", "run"]) mkdirSync(join(stage.scratch, folder), { mode: 0o700 });
  stage.title("A host of our own (203.0.113.1), and another machine outside (203.0.113.2)");
  joinHosts();
  await startOutsideServer();
  stage.say("two network namespaces with a wire between them; nothing on this machine changes");

  stage.title("A network is a conflist: any CNI runtime can use it");
  show("netctl", "network", "create", "web", "--subnet", "10.77.0.0/24");
  show("netctl", "network", "ls");

  stage.title("Two sandboxes join it");
  show("netctl", "sandbox", "create", "alice", "--network", "web");
  show("netctl", "sandbox", "create", "bob", "--network", "web");

  stage.title("They reach each other, the gateway, and the outside, masqueraded");
  const ping = (target) =>
    show("netctl", "sandbox", "exec", "alice", "--", "ping", "-c", "1", "-W", "2", target);
  stage.expect("alice reaches bob", ping("10.77.0.3").includes(" 0% packet loss"));
  stage.expect("alice reaches the gateway", ping("10.77.0.1").includes(" 0% packet loss"));
  const client = `require("net").connect(8080, "203.0.113.2").pipe(process.stdout)`;
  const answer = show("netctl", "sandbox", "exec", "alice", "--", process.execPath, "-e", client);
  stage.expect(
    "the outside host sees alice under the host's address",
    answer.includes("you are 203.0.113.1"),
  );

  stage.title("They find each other by name; a third, in another network, finds neither");
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
  stage.expect("alice finds bob", lookUp("alice", "bob").startsWith("10.77.0.3"));
  stage.expect(
    "bob finds alice by the network's name, too",
    lookUp("bob", "alice.web").startsWith("10.77.0.2"),
  );
  show("netctl", "network", "create", "apart", "--internal", "--subnet", "10.78.0.0/24");
  show("netctl", "sandbox", "create", "carol", "--network", "apart");
  stage.expect("carol does not find alice", lookUp("carol", "alice").includes("not found"));
  show("netctl", "dns", "query", "--from", "alice", "bob");

  stage.title("What netctl sees");
  show("netctl", "inspect");

  stage.title("Clean up");
  show("netctl", "sandbox", "rm", "alice", "bob", "carol");
  show("netctl", "network", "rm", "web", "apart");
  const links = JSON.parse(stage.run("ip", ["-n", host, "-j", "link"])).map((link) => link.ifname);
  stage.expect(
    `nothing is left but what was there: ${links.join(", ")}`,
    links.sort().join() === "lo,uplink",
  );
});
