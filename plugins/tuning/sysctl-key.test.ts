import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { array, assert, constantFrom, property } from "fast-check";
import { afterAll, expect, test } from "vitest";
import { allowlistPath, refuseForbiddenKeys } from "./allowlist.ts";
import { equalSysctlValues, parseSysctlKey, sysctlPath } from "./sysctl-key.ts";

const directory = mkdtempSync(join(tmpdir(), "netctl-allowlist-"));
afterAll(() => rmSync(directory, { recursive: true }));

test.each([
  ["net.core.somaxconn", "net/core/somaxconn"],
  ["net/core/somaxconn", "net/core/somaxconn"],
  ["net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0.10/arp_filter"],
  ["net/ipv4/conf/IFNAME/arp_filter", "net/ipv4/conf/eth0.10/arp_filter"],
  ["net.ipv4.conf.vlan/7.arp_filter", "net/ipv4/conf/vlan.7/arp_filter"],
  ["net/ipv4/conf/vlan.7/arp_filter", "net/ipv4/conf/vlan.7/arp_filter"],
  ["net.IFNAME.IFNAME", "net/eth0.10/IFNAME"],
])("%s is /proc/sys/%s of eth0.10", (text, path) => {
  expect(sysctlPath(parseSysctlKey(text), "eth0.10")).toBe(path);
});

test.each([
  "kernel.shmmax",
  "net",
  "",
  ".net.core",
  "/proc/sys/net/core",
  "net/../kernel/hostname",
  "netx.core",
])("%j is no key of a network namespace", (text) => {
  expect(() => parseSysctlKey(text)).toThrow(`invalid net sysctl key: ${JSON.stringify(text)}`);
});

test("no key leads out of /proc/sys/net", () => {
  const word = constantFrom("net", "..", ".", "/", "kernel", "ipv4", "IFNAME", "a");
  assert(
    property(array(word, { maxLength: 8 }), (words) => {
      let path: string;
      try {
        path = sysctlPath(parseSysctlKey(words.join("")), "eth0");
      } catch {
        return;
      }
      expect(new URL(`file:///proc/sys/${path}`).pathname).toMatch(/^\/proc\/sys\/net\//);
    }),
  );
});

test("values are compared as the kernel prints them", () => {
  expect(equalSysctlValues("4096 87380 6291456", "4096\t87380\t6291456")).toBe(true);
  expect(equalSysctlValues("01", "1")).toBe(true);
  expect(equalSysctlValues("0x10", "16")).toBe(true);
  expect(equalSysctlValues("cubic", "reno")).toBe(false);
  expect(equalSysctlValues("1 2", "1")).toBe(false);
});

function allow(...lines: string[]): string {
  const path = allowlistPath({ conf: join(directory, "net.d") });
  mkdirSync(join(directory, "tuning"), { recursive: true });
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}

test("an allowlist is matched by whole keys, with their placeholder", () => {
  const path = allow("# of this host", "", "^net.ipv4.conf.IFNAME.[a-z_]*$", "net.core.somaxconn");
  const refused = (text: string) => () => refuseForbiddenKeys([parseSysctlKey(text)], path);
  refused("net.ipv4.conf.IFNAME.arp_filter")();
  refused("net/ipv4/conf/IFNAME/arp_filter")();
  refused("net.core.somaxconn")();
  expect(refused("net.core.somaxconn_more")).toThrow(
    "Sysctl net.core.somaxconn_more is not allowed. Only the following sysctls are allowed: [",
  );
  expect(refused("net.ipv4.conf.eth0.arp_filter")).toThrow(/not allowed/);
  expect(refused("net.ipv4.ip_forward")).toThrow(expect.objectContaining({ code: 7 }));
});

test("without an allowlist everything is allowed, with an empty one nothing", () => {
  refuseForbiddenKeys([parseSysctlKey("net.core.somaxconn")], join(directory, "none.conf"));
  const path = allow("");
  expect(() => refuseForbiddenKeys([parseSysctlKey("net.core.somaxconn")], path)).toThrow(/not allowed/);
  refuseForbiddenKeys([], path);
});

test("a line that is no regular expression is named", () => {
  const path = allow("net.(core");
  expect(() => refuseForbiddenKeys([parseSysctlKey("net.core.somaxconn")], path)).toThrow(
    /"net.\(core" is no/,
  );
});
