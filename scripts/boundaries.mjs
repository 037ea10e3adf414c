/**
 * Which folder may import which (docs/architecture.md has the table with the reasons). Written once here, read
 * by .oxlintrc.json's generator below and by the test that proves the rule red.
 */
export const mayImport = {
  net: [],
  native: [],
  machine: ["net", "native"],
  cni: ["net"],
  netlink: ["net", "native"],
  nftables: ["net", "netlink", "native", "machine"],
  kernel: ["net", "native", "netlink", "nftables", "machine"],
  journal: ["net", "native", "machine"],
  engine: ["net", "native", "machine"],
  overlay: ["net", "native", "machine", "netlink", "nftables", "kernel", "engine", "journal"],
  ipam: ["net", "cni", "journal", "native", "machine"],
  "dns-resolver": ["net", "native", "machine"],
  dhcp: ["net", "cni", "native", "machine", "kernel"],
  plugins: ["dhcp", "net", "cni", "ipam", "kernel", "journal", "nftables", "machine"],
  runtime: ["net", "cni", "journal", "native", "machine"],
  suite: [
    "net",
    "native",
    "machine",
    "cni",
    "netlink",
    "nftables",
    "kernel",
    "journal",
    "ipam",
    "dns-resolver",
    "plugins",
  ],
  netd: [
    "dhcp",
    "net",
    "native",
    "machine",
    "cni",
    "netlink",
    "nftables",
    "kernel",
    "journal",
    "ipam",
    "dns-resolver",
    "plugins",
    "suite",
    "runtime",
    "engine",
    "overlay",
  ],
  netctl: ["net", "cni", "runtime", "journal", "machine", "kernel", "nftables", "ipam", "overlay", "engine"],
  conformance: ["net", "cni"],
};

/** Single files, or all that stand in the folder itself, that one folder may import from another beyond the table. */
const exceptions = {
  plugins: ["#plugins/*.ts", "#dns-resolver/registry.ts"],
  suite: ["#netd/protocol.ts", "#netd/client.ts"],
  netctl: [
    "#native/lib-directory.ts",
    "#netd/protocol.ts",
    "#netd/client.ts",
    "#netd/chain-client.ts",
    "#netd/overlay/request.ts",
    "#dns-resolver/messages.ts",
    "#dns-resolver/query-log.ts",
    "#dns-resolver/chain.ts",
    "#dns-resolver/wire/numbers.ts",
    "#suite/config-readers.ts",
    "#suite/host.ts",
    "#suite/kept.ts",
    "#suite/repair.ts",
    "#suite/link-problems.ts",
  ],
};

function rule(folder, allowed, more = []) {
  const extra = [...(exceptions[folder] ?? []), ...more];
  const own = folder === "plugins" ? [] : [folder];
  return {
    "no-restricted-imports": [
      "error",
      {
        patterns: [
          {
            group: [
              "#*/**",
              ...[...allowed, ...own].map((name) => `!#${name}/**`),
              ...extra.map((file) => `!${file}`),
            ],
            message: `${folder}/ may import ${[...allowed, ...own, ...extra].join(", ") || "nothing of ours"}: docs/architecture.md`,
          },
          {
            group: ["../**"],
            message: "Write #folder/file.ts, so that the boundary shows on the import line",
          },
        ],
      },
    ],
  };
}

/** The content of .oxlintrc.json. */
export function lintConfig() {
  return {
    $schema: "./node_modules/oxlint/configuration_schema.json",
    plugins: ["typescript", "unicorn", "import", "oxc"],
    categories: { correctness: "error", suspicious: "error" },
    env: { node: true, es2024: true },
    ignorePatterns: ["dist/**", "node_modules/**"],
    rules: {
      "typescript/no-explicit-any": "error",
      "typescript/no-non-null-assertion": "error",
      "typescript/no-floating-promises": "error",
      "typescript/no-misused-promises": "error",
      "typescript/switch-exhaustiveness-check": "error",
      "typescript/consistent-type-imports": "error",
      "typescript/no-unsafe-type-assertion": "off",
      "typescript/consistent-return": "off",
      "typescript/no-unnecessary-type-arguments": "off",
      "typescript/no-unnecessary-type-conversion": "off",
      "typescript/no-unnecessary-boolean-literal-compare": "off",
      "import/no-cycle": "error",
      "import/no-default-export": "error",
      "import/no-unassigned-import": "off",
      "unicorn/consistent-function-scoping": "off",
      "unicorn/no-array-sort": "off",
      "unicorn/no-array-reverse": "off",
      "unicorn/no-array-callback-reference": "off",
      "no-await-in-loop": "off",
      "no-shadow": "off",
      "no-underscore-dangle": "off",
      "no-control-regex": "off",
      // Sees no callback that changes what a loop waits for.
      "no-unmodified-loop-condition": "off",
    },
    overrides: [
      ...Object.entries(mayImport).map(([folder, allowed]) => ({
        files: [`${folder}/**/*.ts`],
        excludeFiles: ["**/*.test.ts"],
        rules: rule(folder, allowed),
      })),
      {
        // A bridge on each host, with the cluster's addresses: it is asked by its door, as a runtime would.
        files: ["plugins/overlay-vxlan/*.ts"],
        excludeFiles: ["**/*.test.ts"],
        rules: rule("plugins", [...mayImport.plugins, "overlay"], ["#plugins/bridge/main.ts"]),
      },
      { files: ["*.config.ts"], rules: { "import/no-default-export": "off" } },
    ],
  };
}
