import type { DelRequest } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { ReferenceBackup } from "./backup.ts";
import { backupDirectory } from "./config.ts";
import { releaseAttachment } from "./restore.ts";

export async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const backup = new ReferenceBackup(backupDirectory(request.config), key);
  const guess = backup.read();
  releaseAttachment(key, host, { given: request.netns, guess });
  if (guess) backup.remove();
}
