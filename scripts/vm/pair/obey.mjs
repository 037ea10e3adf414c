// Runs in each of two VMs: carries out the commands that come by the virtio-serial port, until its other end is closed.
import { spawn } from "node:child_process";
import { createReadStream, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

const ports = "/sys/class/virtio-ports";
const port = readdirSync(ports).find(
  (name) => readFileSync(`${ports}/${name}/name`, "utf8").trim() === "shell",
);
if (port === undefined) throw new Error("There is no virtio-serial port of the name shell");
const device = openSync(`/dev/${port}`, "r+");

function answer(message) {
  let bytes = Buffer.from(`${JSON.stringify(message)}\n`);
  while (bytes.length > 0) bytes = bytes.subarray(writeSync(device, bytes));
}

function obey({ id, command, environment, limitMs }) {
  const child = spawn("bash", ["-c", command], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
  child.on("close", (status) => {
    clearTimeout(timer);
    answer({ id, status, stdout, stderr });
  });
}

for await (const line of createInterface({ input: createReadStream("", { fd: device, autoClose: false }) }))
  obey(JSON.parse(line));
process.exit(0);
