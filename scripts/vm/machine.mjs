// The virtual machine: qemu without hardware help, this machine's file tree read-only over 9p, one writable folder.
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { writeInitramfs } from "./initramfs.mjs";

const memoryMiB = 2048;

/**
 * Boots `kernel` and runs what `out`/job.json says, on a copy of the repository at `root`. The console goes to stdout.
 * @param {AbortSignal} options.signal ends the VM at once
 * @param {string[]} options.devices further arguments for qemu
 * @param {string} options.label stands before each line of the console
 * @returns undefined, or why the VM did not end by itself
 */
export async function runMachine({ kernel, root, out, initramfs, limitMs, signal, devices = [], label }) {
  writeInitramfs(initramfs, kernel.modules);
  packRepository(root, join(out, "repository.tar"));
  const paths = { ROOT: root, NODE: process.execPath, MODULES: kernel.modules };
  writeFileSync(
    join(out, "paths.sh"),
    Object.entries(paths)
      .map(([name, value]) => `${name}='${value.replaceAll("'", `'\\''`)}'\n`)
      .join(""),
  );
  const child = spawn(
    // With this process qemu ends as well, however this process ends.
    "setpriv",
    ["--pdeathsig", "KILL", "qemu-system-x86_64", ...qemuArguments({ kernel, out, initramfs }), ...devices],
    { stdio: ["ignore", label === undefined ? "inherit" : "pipe", "inherit"] },
  );
  if (child.stdout)
    createInterface({ input: child.stdout }).on("line", (line) => console.log(`${label}| ${line}`));
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
  const stop = () => child.kill("SIGKILL");
  signal.addEventListener("abort", stop);
  const ended = await new Promise((resolve) => {
    child.on("error", (error) => resolve(`Cannot run setpriv: ${error.message}`));
    child.on("exit", (exitCode, by) => {
      if (exitCode === 0) resolve(undefined);
      else if (signal.aborted) resolve("The VM was interrupted");
      else if (by === "SIGKILL") resolve(`The VM was ended after ${limitMs / 60_000} minutes`);
      else resolve(`qemu ended with ${exitCode ?? by}`);
    });
  });
  clearTimeout(timer);
  signal.removeEventListener("abort", stop);
  return ended;
}

function qemuArguments({ kernel, out, initramfs }) {
  const share = (tag, path, options) => [
    "-fsdev",
    `local,id=${tag},path=${path.replaceAll(",", ",,")},security_model=none,multidevs=remap${options}`,
    "-device",
    `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`,
  ];
  const words =
    "-nodefaults -no-user-config -no-reboot -display none -serial stdio -nic none " +
    // Two processors are slower than one: each waits for locks that the other holds while it is not scheduled here.
    `-machine pc -accel tcg,tb-size=512 -cpu max -smp 1 -m ${memoryMiB}`;
  // The mitigations guard against other guests, and cost a good part of each system call here.
  const boot = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr";
  return [
    ...words.split(" "),
    "-kernel",
    kernel.image,
    "-initrd",
    initramfs,
    "-append",
    boot,
    ...share("machine", "/", ",readonly=on"),
    ...share("out", out, ""),
  ];
}

/** The repository without what is big and not needed; its packages are mounted in the VM. */
function packRepository(root, file) {
  const excludes = ["./node_modules", "./.git", "./dist/vm", "./dist/vm.new"].map(
    (path) => `--exclude=${path}`,
  );
  const { status, stderr, error } = spawnSync("tar", ["-C", root, ...excludes, "-cf", file, "."], {
    encoding: "utf8",
  });
  // 1: a file has changed while it was read, as files of people at work do.
  if (error || (status !== 0 && status !== 1))
    throw new Error(`Cannot pack the repository: ${error?.message ?? stderr.trim()}`);
}
