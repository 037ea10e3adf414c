import { CniError, ErrorCode } from "#cni/error.ts";
import { type LeaseFormat, LeaseStore } from "#dhcp/lease-store.ts";
import type { PluginHost } from "#plugins/context.ts";

export function openLeases<Identity, Lease>(
  format: LeaseFormat<Identity, Lease>,
  { directories }: Pick<PluginHost, "directories">,
): LeaseStore<Identity, Lease> {
  return new LeaseStore(format, directories);
}

/**
 * Somebody has to extend leases: netd, which is started where there is none.
 * @throws {CniError} 50
 */
export async function requireService(host: PluginHost): Promise<void> {
  try {
    await host.names.probe();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(
      ErrorCode.PluginNotAvailable,
      `Cannot keep DHCP leases: netd does not serve this host: ${why}`,
      { cause },
    );
  }
}
