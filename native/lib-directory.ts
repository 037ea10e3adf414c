import { join } from "node:path";

/** Where the bundles are; esbuild's `define` replaces it by __dirname. */
declare const NETCTL_LIB_DIRECTORY: string | undefined;

/** The folder with what was built beside the bundles: native.node, sandbox-enter. `dist/lib` when run from source. */
export function libDirectory(): string {
  return typeof NETCTL_LIB_DIRECTORY === "string"
    ? NETCTL_LIB_DIRECTORY
    : join(import.meta.dirname, "../dist/lib");
}
