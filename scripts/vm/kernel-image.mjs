// Debian's stock kernel as files: image and modules. A machine that has the package installed lends its own; for any
// other the package is fetched and unpacked into dist/vm, since installing a kernel would also change what the
// machine boots next.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const kept = fileURLToPath(new URL("../../dist/vm", import.meta.url));
/** The metapackage whose kernel is meant. The "cloud" flavour has no 9p, through which the VM sees this machine. */
const metapackage = "linux-image-amd64";
const isStock = (version) => version.endsWith("-amd64") && !/cloud|-rt-/.test(version);

/** Drivers of hardware that a VM has not: three quarters of the package. */
const leftOut = [
  "sound",
  ...["gpu", "media", "scsi", "staging", "infiniband", "iio", "usb", "hwmon", "input", "platform", "ata"].map(
    (name) => `drivers/${name}`,
  ),
  ...["ethernet", "wireless", "can", "fddi", "dsa", "phy", "usb"].map((name) => `drivers/net/${name}`),
];

/** `{ version, image, modules }` of the newest kernel that is there; undefined if there is none. */
export function findKernel() {
  return findIn("/") ?? findIn(kept);
}

function findIn(root) {
  const versions = (existsSync(join(root, "boot")) ? readdirSync(join(root, "boot")) : [])
    .filter((name) => name.startsWith("vmlinuz-"))
    .map((name) => name.slice("vmlinuz-".length))
    .filter(isStock)
    .sort((left, right) => right.localeCompare(left, "en", { numeric: true }));
  for (const version of versions) {
    const image = join(root, "boot", `vmlinuz-${version}`);
    const modules = ["lib/modules", "usr/lib/modules"]
      .map((path) => join(root, path, version))
      .find((path) => existsSync(join(path, "modules.dep")));
    if (modules && isReadable(image)) return { version, image, modules };
  }
  return undefined;
}

function isReadable(path) {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** Unpacks the kernel package of this machine's Debian release unless a kernel is there. @throws {Error} */
export function ensureKernel() {
  if (findKernel()) return;
  const name = /^\s*Depends: (linux-image-\S+)/m.exec(run("apt-cache", ["depends", metapackage]))?.[1];
  if (name === undefined) throw new Error(`Cannot find the kernel of ${metapackage} in the package lists`);
  const version = name.slice("linux-image-".length);
  console.error(`Unpacking Debian package ${name} into dist/vm`);
  const fresh = `${kept}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  run("apt-get", ["download", "-qq", "-o", "APT::Sandbox::User=root", name], { cwd: fresh });
  const archive = readdirSync(fresh).find((file) => file.endsWith(".deb"));
  if (archive === undefined) throw new Error(`Cannot download ${name}: apt-get left no package`);
  const excludes = leftOut.map((folder) => `--exclude='*/kernel/${folder}'`).join(" ");
  run("sh", ["-ec", `dpkg-deb --fsys-tarfile '${archive}' | tar -x ${excludes} --exclude=./usr/share`], {
    cwd: fresh,
  });
  rmSync(join(fresh, archive));
  const base = existsSync(join(fresh, "lib/modules")) ? fresh : join(fresh, "usr");
  run("depmod", ["--basedir", base, version]);
  rmSync(kept, { recursive: true, force: true });
  renameSync(fresh, kept);
  if (!findKernel()) throw new Error(`Cannot use ${name}: it has no kernel image with modules`);
}

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", ...options });
  if (error) throw new Error(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Error(`Cannot run "${command} ${args.join(" ")}": ${stderr.trim()}`);
  return stdout;
}
