import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { delimiter, join } from "node:path";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { encryptionName } from "#overlay/identity.ts";
import { readOverlayStatus } from "#overlay/status-file.ts";
import type { Check, Finding } from "./finding.ts";

/** Without it nothing goes between hosts in encrypted networks, and nothing goes in the clear either. */
export const encryption: Check = {
  id: "encryption",
  summary: "whether encrypted networks of the cluster have what encrypts",
  run({ links, world }) {
    const settings = readHostSettings(overlayDirectory(world.directories.state));
    const status = settings && readOverlayStatus(world.directories.run);
    if (!settings || !status) return [];
    const names = (["a", "b"] as const).map((slot) => encryptionName(settings.hostId, slot) as string);
    return encryptionFindings({
      networks: status.networks.filter(({ encrypted }) => encrypted),
      hasDevice: links.some(({ name }) => names.includes(name)),
      hasKernel: kernelHasWireguard(),
      hasProgram: isOnPath("wireguard-go", world.environment["PATH"] ?? ""),
    });
  },
};

/** @param seen `networks`: the encrypted ones, with the blocks of this host */
export function encryptionFindings(seen: {
  readonly networks: readonly { readonly name: string; readonly blocks: readonly string[] }[];
  readonly hasDevice: boolean;
  readonly hasKernel: boolean;
  readonly hasProgram: boolean;
}): readonly Finding[] {
  const { networks, hasDevice, hasKernel, hasProgram } = seen;
  if (hasDevice || networks.length === 0) return [];
  const used = networks.filter(({ blocks }) => blocks.length > 0);
  const subject = (used.length > 0 ? used : networks).map(({ name }) => name).join(", ");
  if (!hasKernel && !hasProgram)
    return [
      {
        id: "encryption-absent",
        severity: used.length > 0 ? "error" : "warning",
        subject,
        evidence: "this kernel has no WireGuard, and there is no program wireguard-go on the PATH",
        remedy: "apt-get install wireguard-go, or a kernel with CONFIG_WIREGUARD",
      },
    ];
  if (used.length === 0) return [];
  return [
    {
      id: "encryption-down",
      severity: "error",
      subject,
      evidence:
        "this host has containers' addresses in it, and no WireGuard device: other hosts are not reached",
      remedy: '"netctl cluster status" says why; netd makes the device',
    },
  ];
}

/** Loaded, built in, or there to be loaded. */
function kernelHasWireguard(): boolean {
  if (existsSync("/sys/module/wireguard")) return true;
  return ["modules.builtin", "modules.dep"].some((file) => {
    try {
      return readFileSync(join("/lib/modules", release(), file), "utf8").includes("/wireguard.ko");
    } catch {
      return false;
    }
  });
}

function isOnPath(program: string, path: string): boolean {
  return path.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory || ".", program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
