import type { VerbHost } from "#cni/plugin.ts";
import type { PluginRunner } from "#cni/plugin-runner.ts";
import type { NameService } from "#dns-resolver/registry.ts";
import type { Journal } from "#journal/journal.ts";
import type { HostKernel } from "#kernel/host-kernel.ts";
import type { Directories } from "#machine/directories.ts";
import type { Log } from "#machine/log.ts";
import type { Nftables } from "#nftables/nftables.ts";

/** Everything a plugin of the suite may act on. Built once per process (`suite/host.ts`), shared by all calls. */
export interface PluginHost extends VerbHost {
  readonly kernel: HostKernel;
  readonly nftables: Nftables;
  readonly journal: Journal;
  readonly runner: PluginRunner;
  /** Where containers find each other by name. */
  readonly names: NameService;
  readonly directories: Directories;
  /** Unix socket of the system's D-Bus: where firewalld is asked. */
  readonly systemBus: string;
  /** /proc/sys/kernel/random/boot_id */
  readonly bootId: string;
  readonly log: Log;
  /**
   * Runs what nobody waits for, such as telling the neighbours: a service once the answer is on its way, a process of its
   * own at once. Whatever it throws is logged and lost. The host is not closed before it has ended.
   */
  readonly afterwards: (what: string, task: () => Promise<void>) => void;
}
