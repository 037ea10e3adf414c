import { writeFileSync } from "node:fs";
import { requireMembership } from "#netctl/cluster.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode, Failure } from "#netctl/failure.ts";
import { KeyFile } from "#overlay/encryption/key-file.ts";
import { overlayDirectory } from "#overlay/host-settings.ts";

export const registerClusterRotateKey: Register = (parent, invoke) => {
  parent
    .command("rotate-key")
    .summary("Replace this host's encryption key")
    .description(
      'Replace this host\'s encryption key by a new one, while packets flow. The agent does it in the background; "netctl cluster status --json" shows both public keys until it is done.',
    )
    .action((_flags: object, command) =>
      invoke(command, async (world) => {
        requireMembership(world);
        const file = new KeyFile(overlayDirectory(world.directories.state));
        const keys = file.read();
        if (keys.length === 0)
          throw new Failure("This host has no encryption key: no network of the cluster is encrypted");
        if (keys.length > 1)
          throw new Failure("Cannot replace this host's encryption key: it is being replaced already");
        writeFileSync(file.wishPath, "", { mode: 0o600 });
        return ExitCode.Ok;
      }),
    );
};
