/** Plugins installed in dist/bin, each as a copy of the launcher. `netctl` is there as well. */
export const plugins = ["bridge", "host", "none", "loopback", "host-local", "static"];
export const executables = [...plugins, "netctl"];

/** Programs bundled into dist: one file each, so that a process start reads one file. */
export const bundles = [
  { entry: "suite/standalone.ts", out: "dist/lib/standalone.cjs", format: "cjs" },
  { entry: "netd/main.ts", out: "dist/lib/netd.cjs", format: "cjs" },
  { entry: "netctl/main.ts", out: "dist/lib/netctl.cjs", format: "cjs" },
  { entry: "conformance/main.ts", out: "dist/conformance/main.js", format: "esm" },
];
