import { CniError } from "#cni/error.ts";

/** Plugin-specific (100 and up): somebody else has a port of the host. It is free again when they have gone. */
export const portAllocatedCode = 100;

export function portAllocated(message: string, cause?: unknown): CniError {
  return new CniError(portAllocatedCode, message, cause === undefined ? {} : { cause });
}
