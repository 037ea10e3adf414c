/** Plugins installed in dist/bin, each as a copy of the launcher. `netctl` is there as well. */
export const plugins = [
  "bridge",
  "macvlan",
  "ipvlan",
  "vlan",
  "dummy",
  "host",
  "none",
  "loopback",
  "host-local",
  "static",
  "ptp",
  "tap",
  "host-device",
  "overlay-vxlan",
  "portmap",
  "firewall",
  "tuning",
  "bandwidth",
  "dhcp",
  "vrf",
  "dns",
  "sbr",
];
export const executables = [...plugins, "netctl"];

/** Those of which lib/standalone.cjs starts a program of their own, lib/standalone-NAME.js: see scripts/one-plugin.mjs. */
const alone = ["bridge", "portmap", "firewall", "tuning"];

/** What netd is started with (native/launcher.c, deploy/systemd), and what it sets for its resolver (dns-resolver/thread.ts). */
const netdFlags = ["--optimize-for-size"];
const resolverFlags = { started: netdFlags, later: ["--no-optimize-for-size"] };

/** lib/NAME.cjs starts lib/NAME.js, with V8's flags as they are when it is loaded: see suite/program.ts. */
export const programs = [
  { name: "standalone", entry: "suite/standalone.ts", alone },
  { name: "netd", entry: "netd/main.ts", flags: { started: netdFlags } },
  { name: "netctl", entry: "netctl/main.ts" },
  { name: "resolver", entry: "dns-resolver/main.ts", flags: resolverFlags },
];

/** What else is bundled into dist. */
export const bundles = [{ entry: "conformance/main.ts", file: "conformance/main.js", format: "esm" }];

/** The harness that makes use of crash points. */
export const faultBundles = [{ entry: "conformance/faults/main.ts", file: "faults.js", format: "esm" }];
