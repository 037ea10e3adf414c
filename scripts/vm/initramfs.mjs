// The first file tree of the VM: busybox, the modules without which it can't reach this machine's files, and init.sh.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";

const needed = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/** Writes it to `file`, for the kernel whose modules are in the folder `modules`. @throws {Error} */
export function writeInitramfs(file, modules) {
  const busybox = readFileSync("/bin/busybox");
  // The name of the dynamic loader stands behind the headers of a program that needs one.
  if (busybox.subarray(0, 4096).includes("ld-linux"))
    throw new Error("Cannot boot with /bin/busybox, as it is not static: apt-get install busybox-static");
  const loaded = inOrder(modules, needed);
  const entries = [
    ...["bin", "dev", "proc", "sys", "machine", "writes", "out", "new", "modules"].map((path) => ({
      path,
      mode: 0o040755,
    })),
    { path: "bin/busybox", mode: 0o100755, data: busybox },
    { path: "init", mode: 0o100755, data: readFileSync(new URL("init.sh", import.meta.url)) },
    ...loaded.map((path) => ({ path: `modules/${plainName(path)}`, mode: 0o100644, data: plain(path) })),
    {
      path: "modules/order",
      mode: 0o100644,
      data: Buffer.from(loaded.map((path) => `${plainName(path)}\n`).join("")),
    },
  ];
  writeFileSync(file, gzipSync(archive(entries), { level: 1 }));
}

/** Paths of the modules and all that they depend on, those first that the others need. Built-in ones are left out. */
function inOrder(modules, names) {
  const dependencies = new Map(
    readFileSync(join(modules, "modules.dep"), "utf8")
      .split("\n")
      .filter((line) => line.includes(":"))
      .map((line) => {
        const [path = "", rest = ""] = line.split(":");
        return [path, rest.trim().split(" ").filter(Boolean)];
      }),
  );
  const builtIn = readFileSync(join(modules, "modules.builtin"), "utf8").split("\n").map(moduleName);
  const order = new Set();
  for (const name of names) {
    const path = [...dependencies.keys()].find((candidate) => moduleName(candidate) === name);
    if (path === undefined && builtIn.includes(name)) continue;
    if (path === undefined) throw new Error(`Cannot boot with the modules of ${modules}: ${name} is missing`);
    // modules.dep lists a module's dependencies in the order in which they have to be removed.
    for (const each of (dependencies.get(path) ?? []).toReversed()) order.add(each);
    order.add(path);
  }
  return [...order].map((path) => join(modules, path));
}

const plainName = (path) => basename(path).replace(/\.(xz|zst|gz)$/, "");
const moduleName = (path) => plainName(path).replace(/\.ko$/, "").replaceAll("-", "_");

function plain(path) {
  const tool = { xz: "xz", zst: "zstd", gz: "gzip" }[path.split(".").at(-1) ?? ""];
  if (tool === undefined) return readFileSync(path);
  const { status, stdout, error } = spawnSync(tool, ["-dc", path], { maxBuffer: 64 * 1024 * 1024 });
  if (error || status !== 0) throw new Error(`Cannot unpack ${path} with ${tool}`);
  return stdout;
}

/** A cpio archive of the kind "newc": Linux, Documentation/driver-api/early-userspace/buffer-format.rst. */
function archive(entries) {
  const parts = [];
  const add = ({ path, mode, data = Buffer.alloc(0) }, inode) => {
    const name = Buffer.from(`${path}\0`);
    const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    parts.push(padded(Buffer.concat([Buffer.from(header), name])), padded(data));
  };
  for (const [at, entry] of entries.entries()) add(entry, at + 1);
  add({ path: "TRAILER!!!", mode: 0 }, 0);
  return Buffer.concat(parts);
}

const padded = (bytes) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
