/** Plugins installed in dist/bin, each as a copy of the launcher. `netctl` is there as well. */
export const plugins = ["bridge", "host", "none", "loopback", "host-local", "static", "portmap"];
export const executables = [...plugins, "netctl"];

const programs = [
  { entry: "suite/standalone.ts", file: "lib/standalone.cjs", format: "cjs" },
  { entry: "netd/main.ts", file: "lib/netd.cjs", format: "cjs" },
  { entry: "netctl/main.ts", file: "lib/netctl.cjs", format: "cjs" },
];

/** Programs bundled into dist: one file each, so that a process start reads one file. */
export const bundles = [
  ...programs,
  { entry: "conformance/main.ts", file: "conformance/main.js", format: "esm" },
];

/** The same with crash points, and the harness that makes use of them. */
export const faultBundles = [
  ...programs,
  { entry: "conformance/faults/main.ts", file: "faults.js", format: "esm" },
];
