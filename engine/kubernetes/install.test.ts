import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const installer = join(import.meta.dirname, "../../deploy/kubernetes/install.sh");

/** Stands for nsenter: what should run on the node is written down, and netd runs until it is told to end. */
const onNode = `#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *netd.cjs*) exec sleep 600 ;; esac
`;

test("the installer puts all of a build on a node, keeps netd there, and ends with it", async () => {
  const directory = mkdtempSync(join(tmpdir(), "netctl-installer-"));
  const at = (path: string) => join(directory, path);
  const write = (path: string, text: string) => {
    mkdirSync(dirname(at(path)), { recursive: true });
    writeFileSync(at(path), text);
  };
  try {
    for (const file of ["lib/netd.cjs", "lib/ui/app.js", "bin/bridge", "bin/netctl", "node"])
      write(`build/${file}`, file);
    for (const file of ["token", "ca.crt"]) write(`account/${file}`, file);
    write("on-node", onNode);
    chmodSync(at("on-node"), 0o755);
    // Of a netd that an ADD has started while no pod was here.
    const socket = `host/run/netctl/netd-${statSync("/proc/self/ns/net").ino}.sock`;
    write(socket, "");
    const child = spawn("sh", [installer], {
      stdio: "ignore",
      env: {
        PATH: process.env["PATH"],
        HOST: at("host"),
        FROM: at("build"),
        ACCOUNT: at("account"),
        IN: at("on-node"),
        CALLS: at("calls"),
        KUBERNETES_SERVICE_HOST: "10.96.0.1",
        KUBERNETES_SERVICE_PORT: "443",
        NODE_NAME: "n1",
      },
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const calls = () => (existsSync(at("calls")) ? readFileSync(at("calls"), "utf8") : "");
    await expect.poll(calls, { timeout: 30_000 }).toMatch(/ network create .* 10-pods\n/);
    expect(calls()).toMatch(
      /netd.cjs\n(.*\n)*.* cluster init kubernetes .*https:\/\/10.96.0.1:443 .*--host-name n1\n/,
    );
    for (const file of ["lib/netd.cjs", "lib/ui/app.js", "node"])
      expect(readFileSync(at(`host/opt/netctl/${file}`), "utf8")).toBe(file);
    expect(existsSync(at("host/opt/netctl/bin/bridge"))).toBe(true);
    expect(statSync(at("host/var/lib/netctl/kubernetes/token")).mode & 0o777).toBe(0o600);
    expect(existsSync(at(socket))).toBe(false);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
