import { execFileSync } from "node:child_process";
import type { TestNamespace } from "./test-namespace.ts";

/**
 * What the npm package `netlink` reads in a namespace: a codec that nobody of this project wrote, as a witness beside
 * `ip -j`. It opens its socket where its process is, so it runs in one of its own.
 */
export function readWithPackage(namespace: TestNamespace, call: PackageCall): readonly PackageMessage[] {
  const script = `
    const { createRtNetlink } = require("netlink");
    const plain = (key, value) => typeof value === "bigint" ? Number(value)
      : value?.type === "Buffer" ? Buffer.from(value.data).toString("hex") : value instanceof Map ? undefined : value;
    createRtNetlink().${call}({}).then((messages) => {
      process.stdout.write(JSON.stringify(messages, plain), () => process.exit(0));
    });`;
  const output = execFileSync("nsenter", [`--net=${namespace.path}`, process.execPath, "-e", script], {
    encoding: "utf8",
    cwd: import.meta.dirname,
    env: { PATH: process.env["PATH"] },
  });
  return JSON.parse(output) as readonly PackageMessage[];
}

type PackageCall = "getLinks" | "getAddresses" | "getRoutes" | "getNeighbors" | "getRules" | "getQdiscs";

/** Buffers are hex, 64-bit counters are numbers. */
export interface PackageMessage {
  readonly data: Readonly<Record<string, unknown>>;
  readonly attrs: Readonly<Record<string, unknown>>;
}
