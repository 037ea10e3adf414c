import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltSuite, buildSuite } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let directory: string;
beforeAll(async () => {
  suite = await buildSuite();
  directory = mkdtempSync(join(tmpdir(), "netctl-racing-"));
});
afterAll(() => {
  suite.remove();
  rmSync(directory, { recursive: true });
});

interface Answer {
  readonly code?: number;
  readonly ips?: readonly { readonly address: string }[];
}

/** ADD of host-local, as a process of its own. */
async function add(subnet: string, containerId: string): Promise<Answer> {
  const config = {
    cniVersion: "1.1.0",
    name: `net-${subnet.replaceAll(/[/:]/g, "-")}`,
    type: "bridge",
    ipam: { type: "host-local", dataDir: directory, ranges: [[{ subnet }]] },
  };
  const env = {
    PATH: process.env["PATH"] ?? "",
    NETCTL_STATE_DIR: directory,
    NETCTL_RUN_DIR: directory,
    NETCTL_STANDALONE: "1",
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: containerId,
    CNI_NETNS: "/run/netns/none",
    CNI_IFNAME: "eth0",
    CNI_PATH: suite.bin,
  };
  const stdout = await new Promise<string>((resolve) => {
    const child = execFile(join(suite.bin, "host-local"), { env }, (_error, text) => resolve(text));
    child.stdin?.end(JSON.stringify(config));
  });
  return JSON.parse(stdout) as Answer;
}

test.each([
  ["10.1.0.0/30", ["10.1.0.2/30"]],
  ["10.2.0.0/29", [2, 3, 4, 5, 6].map((last) => `10.2.0.${last}/29`)],
  ["fd01::/126", ["fd01::2/126", "fd01::3/126"]],
])(
  "50 processes at once on %s get each of its addresses once, and the rest code 11",
  async (subnet, addresses) => {
    const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => add(subnet, `c${index}`)));
    const given = answers.flatMap(({ ips = [] }) => ips.map(({ address }) => address));
    expect(given.sort()).toEqual(addresses);
    const codes = answers.filter(({ ips }) => ips === undefined).map(({ code }) => code);
    expect(codes).toEqual(Array.from({ length: 50 - addresses.length }, () => 11));
    const files = readdirSync(join(directory, `net-${subnet.replaceAll(/[/:]/g, "-")}`));
    expect(files.filter((name) => /^[0-9a-f]+[.:]/.test(name))).toHaveLength(addresses.length);
  },
);
