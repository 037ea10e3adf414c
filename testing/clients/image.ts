import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const imageName = "localhost/netctl/busybox:1";

/**
 * Writes an image with busybox and its applets, without any registry: a docker-archive of one layer, as
 * `ctr image import`, `podman load` and CRI take it. Needs Debian's busybox-static.
 * @returns path of the archive
 */
export function writeBusyboxImage(
  directory: string,
  image: { readonly name: string; readonly command: readonly string[] } = {
    name: imageName,
    command: ["sh"],
  },
): string {
  const busybox = "/bin/busybox";
  const root = join(directory, "root");
  for (const each of ["bin", "etc", "proc", "sys", "dev", "tmp", "root"]) {
    mkdirSync(join(root, each), { recursive: true });
  }
  copyFileSync(busybox, join(root, "bin/busybox"));
  chmodSync(join(root, "bin/busybox"), 0o755);
  const applets = execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n");
  for (const applet of applets) {
    if (applet !== "busybox") symlinkSync("busybox", join(root, "bin", applet));
  }
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");

  const layer = join(directory, "layer.tar");
  const fixed = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
  execFileSync("tar", [...fixed, "-C", root, "-cf", layer, "."]);
  const architecture = process.arch === "arm64" ? "arm64" : "amd64";
  const config = JSON.stringify({
    architecture,
    os: "linux",
    config: { Env: ["PATH=/bin"], Cmd: image.command, WorkingDir: "/" },
    rootfs: { type: "layers", diff_ids: [`sha256:${digest(readFileSync(layer))}`] },
    history: [{ created_by: "netctl's tests" }],
  });
  const configName = `${digest(Buffer.from(config))}.json`;
  writeFileSync(join(directory, configName), config);
  const manifest = [{ Config: configName, RepoTags: [image.name], Layers: ["layer.tar"] }];
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(manifest));
  const archive = join(directory, "busybox.tar");
  execFileSync("tar", ["-C", directory, "-cf", archive, "manifest.json", configName, "layer.tar"]);
  return archive;
}

function digest(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
