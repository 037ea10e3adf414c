import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { addResolverRedirect, hasResolverRedirect, removeResolverRedirect } from "./resolver-redirect.ts";

let container: TestNamespace;
let fd: number;
let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-redirect-"));
  file = join(directory, "script.js");
  container = TestNamespace.create("redirect");
  fd = openSync(container.path, "r");
});
afterEach(() => {
  closeSync(fd);
  rmSync(directory, { recursive: true });
  container.remove();
});

test("the rules are those that nft would write, once, whatever was there", () => {
  addResolverRedirect(fd, 65_000);
  addResolverRedirect(fd, 65_053);
  const listing = container.run("nft list table ip netctl_dns").replace(/\s+/g, " ");
  expect(listing).toContain("type filter hook output priority raw - 10; policy accept;");
  for (const rule of [
    "ip daddr 127.0.0.11 udp dport 53 udp dport set 65053 notrack",
    "ip daddr 127.0.0.11 tcp dport 53 tcp dport set 65053 notrack",
    "ip saddr 127.0.0.11 udp sport 65053 udp sport set 53 notrack",
    "ip saddr 127.0.0.11 tcp sport 65053 tcp sport set 53 notrack",
  ]) {
    expect(listing.split(rule)).toHaveLength(2);
  }
  expect(listing).not.toContain("65000");
});

test("what is missing, or leads elsewhere, is noticed; what is not there is removed in peace", () => {
  expect(hasResolverRedirect(fd, 65_053)).toBe(false);
  removeResolverRedirect(fd);
  addResolverRedirect(fd, 65_053);
  expect(hasResolverRedirect(fd, 65_053)).toBe(true);
  expect(hasResolverRedirect(fd, 65_054)).toBe(false);
  container.run("nft flush chain ip netctl_dns output");
  expect(hasResolverRedirect(fd, 65_053)).toBe(false);
  removeResolverRedirect(fd);
  expect(container.run("nft list tables")).toBe("");
});

test("both protocols get through to the port behind, and the container keeps port 53 for itself", () => {
  addResolverRedirect(fd, 65_053);
  const script = `
    const { createSocket } = require("node:dgram");
    const { createServer, connect } = require("node:net");
    const [port, address] = [65053, "127.0.0.11"];
    const resolver = createSocket("udp4");
    resolver.on("message", (data, peer) => resolver.send(data + "!", peer.port, peer.address));
    const listener = createServer((socket) => socket.once("data", (data) => socket.end(data + "x".repeat(200000))));
    const ready = [
      new Promise((done) => resolver.bind(port, address, done)),
      new Promise((done) => listener.listen(port, address, done)),
      new Promise((done) => createSocket("udp4").bind(53, "0.0.0.0", done)),
      new Promise((done) => createServer().listen(53, "0.0.0.0", done)),
    ];
    Promise.all(ready).then(() => {
      const client = createSocket("udp4");
      client.connect(53, address, () => client.send("udp"));
      client.on("message", (answer) => {
        console.log(String(answer));
        let length = 0;
        connect(53, address, function () { this.write("tcp"); })
          .on("data", (piece) => (length += piece.length))
          .on("end", () => { console.log(length); process.exit(); });
      });
    });
  `;
  writeFileSync(file, script);
  expect(container.run(`${process.execPath} ${file}`)).toBe("udp!\n200003\n");
});
