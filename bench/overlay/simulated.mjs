// npm run bench:overlay-hosts: what many hosts at once cost their etcd: agents in one process, each with a network
// namespace of its own, and an etcd of one member without fsync. docs/overlay-scale.md says what the figures mean.
//   --hosts N   (200)   --names N   containers on each (30)
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { Stage, Stop } from "../../scripts/demo-stage.mjs";

const { values } = parseArgs({
  options: { hosts: { type: "string", default: "200" }, names: { type: "string", default: "30" } },
});
const hosts = Number(values.hosts);
const url = "http://127.0.0.1:2379";
const stage = new Stage();

await stage.play(async () => {
  const program = join(stage.scratch, "simulated-hosts.js");
  await build({
    entryPoints: [fileURLToPath(new URL("simulated-hosts.ts", import.meta.url))],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
    define: { NETCTL_LIB_DIRECTORY: JSON.stringify(stage.lib) },
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
  });
  const wire = stage.host("wire");
  const words = ["--data-dir", join(stage.scratch, "etcd"), "--listen-client-urls", url];
  words.push("--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380");
  stage.start(wire, "etcd", [...words, "--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"]);
  const namespaces = Array.from({ length: hosts }, (_, index) => {
    const name = stage.host(`s${index}`);
    stage.run("ip", ["-n", name, "address", "add", `10.77.${index >> 8}.${index & 255}/32`, "dev", "lo"]);
    return name;
  });
  await stage.until("etcd answers", () => {
    try {
      stage.run(
        "nsenter",
        [`--net=/run/netns/${wire}`, "etcdctl", "--endpoints", url, "endpoint", "health"],
        {
          env: { PATH: process.env.PATH, ETCDCTL_API: "3" },
        },
      );
      return true;
    } catch {
      return false;
    }
  });
  const directory = mkdtempSync(join(stage.scratch, "hosts-"));
  const args = [program, url, directory, values.names, ...namespaces];
  const child = spawn("nsenter", [`--net=/run/netns/${wire}`, process.execPath, ...args], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  stage.atEnd(() => child.kill("SIGKILL"));
  const code = await new Promise((resolve) => child.once("exit", resolve));
  if (code !== 0) throw new Stop(`The hosts have ended with code ${code}`);
});
