// A Compose file of four tiers as sandboxes, on a host of its own that this makes and removes.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pc from "picocolors";
import { Stage } from "./demo-stage.mjs";

const file = "examples/four-tiers.compose.yaml";
process.chdir(fileURLToPath(new URL("..", import.meta.url)));

const stage = new Stage();
const host = stage.host("host");
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
const show = (...words) => stage.show(host, "", words, { env: environment });

/** Names are answered by netd, which was started for them. */
function stopNetd() {
  const run = join(stage.scratch, "run");
  for (const name of existsSync(run) ? readdirSync(run) : []) {
    const pid = name.endsWith(".lock") ? Number(readFileSync(join(run, name), "utf8")) : 0;
    if (!(pid > 0)) continue;
    process.kill(pid, "SIGTERM");
    for (let tries = 0; existsSync(`/proc/${pid}`) && tries < 100; tries++) spawnSync("sleep", ["0.05"]);
  }
}

/** Whether one ping gets an answer. */
function reaches(sandbox, address, seconds) {
  const netns = join(stage.scratch, "run/netns", sandbox);
  const { status } = spawnSync("nsenter", [`--net=${netns}`, "ping", "-c1", `-W${seconds}`, address]);
  return status === 0;
}

await stage.play(async () => {
  stage.atEnd(stopNetd);
  for (const folder of ["conf", "state", "run"]) mkdirSync(join(stage.scratch, folder), { mode: 0o700 });
  stage.title("What the file would make of this host");
  show("netctl", "apply", "-f", file, "--dry-run");

  stage.title("Four networks, seven sandboxes");
  show("netctl", "apply", "-f", file);
  show("netctl", "sandbox", "ls");

  stage.title("Tiers that share a network reach each other, and no others");
  stage.expect("the api reaches its database", reaches("shop-api-1", "10.90.3.10", 10));
  stage.expect("the proxy does not", !reaches("shop-proxy-1", "10.90.3.10", 2));
  stage.expect("the database reaches nobody outside its network", !reaches("shop-db-1", "10.90.1.10", 2));
  show("netctl", "dns", "query", "--from", "shop-api-1", "postgres");

  stage.title("Called again, nothing is touched");
  const again = show("netctl", "apply", "-f", file);
  stage.expect("nothing to do", again.includes("nothing to do"));

  stage.title("And away");
  show("netctl", "down", "-f", file);
});
