import { runProgram } from "#nftables/program.ts";
import type { DeviceFiles } from "./device-files.ts";
import type { NetworkNamespace } from "./namespace.ts";
import type { TapSpec } from "./tap.ts";

/** Whether this host's kernel looks at SELinux labels. */
export async function isSelinuxOn(files: DeviceFiles): Promise<boolean> {
  return (await files.find("/sys/fs/selinux/enforce")) !== undefined;
}

/**
 * Makes a tap device with an SELinux label. A device has that of the process that makes it (selinux_tun_dev_create in
 * security/selinux/hooks.c), and a process gets another only by starting a program: hence
 * `runcon CONTEXT ip tuntap add NAME mode tap`. Without MAC address and MTU, for which `finishTap()` is.
 * @throws {ProgramError}
 */
export async function runLabelledTap(
  namespace: NetworkNamespace,
  { name, multiQueue, owner, group }: TapSpec,
  how: { readonly context: string; readonly searchPath: string | undefined },
): Promise<void> {
  await runProgram(
    "runcon",
    [
      how.context,
      "ip",
      "tuntap",
      "add",
      "dev",
      name,
      "mode",
      "tap",
      ...(multiQueue ? ["multi_queue"] : []),
      ...(owner === undefined ? [] : ["user", String(owner)]),
      ...(group === undefined ? [] : ["group", String(group)]),
    ],
    { searchPath: how.searchPath, namespacePath: namespace.path },
  );
}
