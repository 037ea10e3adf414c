import { join } from "node:path";
import { libDirectory } from "#native/lib-directory.ts";

/** Where this very program stands: its bundles, and the executables beside them. */
export function programFiles(): { readonly lib: string; readonly bin: string } {
  const lib = libDirectory();
  return { lib, bin: join(lib, "../bin") };
}
