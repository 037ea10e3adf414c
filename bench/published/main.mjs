// npm run bench:published: what published ports cost packets, and netavark beside us. docs/performance.md has the figures.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writePage } from "../report.mjs";
import { compileFlow } from "./flow.mjs";
import { measureNetavark, netavark } from "./netavark.mjs";
import { measureThroughput } from "./throughput.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "60" },
    ms: { type: "string", default: "60" },
    n: { type: "string", default: "30" },
    bin: { type: "string", default: join(root, "dist/bin") },
    write: { type: "boolean", default: false },
  },
});
const bin = resolve(options.bin);
const say = (line) => console.log(line);

/** The warm services that our executables have started below directories of ours. */
function endServices() {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
      const isOurs = environment
        .split("\0")
        .some((each) => each.startsWith("NETCTL_RUN_DIR=/var/tmp/netctl-bench-"));
      if (isOurs && readlinkSync(`/proc/${pid}/exe`) === process.execPath && Number(pid) !== process.pid) {
        process.kill(Number(pid));
      }
    } catch {
      // It has ended.
    }
  }
}

const figure = (value) =>
  value >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 100 ? 0 : 2);
const percent = (ratio) => `${(100 * ratio).toFixed(1)} %`;
const ms = ({ median, p95 }) => `${median.toFixed(1)} / ${p95.toFixed(1)}`;

function table(lines) {
  const [head, ...rest] = lines;
  return [head, head.map((_, index) => (index === 0 ? "---" : "--:")), ...rest]
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n");
}

async function main() {
  if (process.getuid() !== 0) throw new Error("Root is needed to make network namespaces");
  const machine = `Linux ${release()}, ${cpus().length} x ${/model name\s*:\s*(.*)/.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch}, load ${loadavg()[0].toFixed(1)} at the start, Node ${process.versions.node}`;
  const throughput = await measureThroughput({
    bin,
    flow: compileFlow(root),
    rounds: Number(options.rounds),
    forMs: Number(options.ms),
    say,
  });
  const peer = Number(options.n) > 0 ? measureNetavark({ bin, count: Number(options.n), say }) : undefined;
  const parts = [
    `\`npm run bench:published\`, ${new Date().toISOString().slice(0, 10)}\\\n${machine}`,
    table([
      [
        "through a published port, LAN to container",
        "one DNAT rule by hand",
        "ours",
        "ours, 10,000 ports",
        "ours : by hand",
        "with 10,000 : by hand",
      ],
      ...throughput.map(({ title, rates, ratios }) => [title, ...rates.map(figure), ...ratios.map(percent)]),
    ]),
  ];
  if (peer) {
    const { stdout } = spawnSync(netavark, ["--version"], { encoding: "utf8" });
    parts.push(
      table([
        [
          "bridge, masquerading, one port (ms, median / p95)",
          "ours (bridge + portmap)",
          stdout.trim(),
          "netavark : ours",
        ],
        ...peer.map(({ verb, ours, netavark: other, ratio }) => [
          verb === "ADD" ? "ADD, setup" : "DEL, teardown",
          ms(ours),
          ms(other),
          ratio.toFixed(1),
        ]),
      ]),
    );
  } else parts.push("netavark was not measured.");
  const text = parts.join("\n\n");
  say(`\n${text}`);
  if (options.write) writePage(join(root, "docs/performance.md"), text, "published");
}

main()
  .catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  })
  .finally(endServices);
