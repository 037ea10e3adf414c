// Builds dist/lib/launcher: static, without a C library. Takes the machine's compiler, or CC, which may be a
// cross compiler (CC=aarch64-linux-gnu-gcc).
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

export function buildLauncher(out = "dist/lib/launcher") {
  const compiler = process.env.CC ?? "cc";
  const flags = [
    ..."-std=gnu11 -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin -nostdlib -static -fno-pie -no-pie".split(
      " ",
    ),
    ..."-fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-ident -s".split(" "),
    ..."-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro -Wl,--gc-sections".split(" "),
    `-DLIB_DIRECTORY="${root}dist/lib"`,
    `-DNODE_PATH="${process.execPath}"`,
  ];
  const { status, error, stderr } = spawnSync(compiler, [...flags, "-o", out, "native/launcher.c"], {
    cwd: root,
    encoding: "utf8",
  });
  if (error?.code === "ENOENT")
    throw new Error(
      `Cannot build the launcher: no C compiler "${compiler}"; install gcc and libc6-dev, or set CC`,
    );
  if (error) throw error;
  if (status !== 0) throw new Error(`Cannot build the launcher:\n${stderr}`);
}
