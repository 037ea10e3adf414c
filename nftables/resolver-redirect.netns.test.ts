import { closeSync, openSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { addResolverRedirect, hasResolverRedirect, removeResolverRedirect } from "./resolver-redirect.ts";

let container: TestNamespace;
let fd: number;
beforeEach(() => {
  container = TestNamespace.create("redirect");
  fd = openSync(container.path, "r");
});
afterEach(() => {
  closeSync(fd);
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
    import socket, threading
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.11", 65053))
    t = socket.socket(); t.bind(("127.0.0.11", 65053)); t.listen()
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); own.bind(("0.0.0.0", 53))
    listener = socket.socket(); listener.bind(("0.0.0.0", 53)); listener.listen()
    def serve():
        data, peer = u.recvfrom(4096); u.sendto(data + b"!", peer)
        c, _ = t.accept(); c.sendall(c.recv(10) + b"x" * 200000); c.close()
    threading.Thread(target=serve, daemon=True).start()
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.settimeout(5); c.connect(("127.0.0.11", 53))
    c.send(b"udp"); print(c.recv(100).decode())
    c = socket.socket(); c.settimeout(5); c.connect(("127.0.0.11", 53)); c.sendall(b"tcp"); n = 0
    while True:
        data = c.recv(65536)
        if not data: break
        n += len(data)
    print(n)
  `.replace(/^ {4}/gm, "");
  expect(container.run(`python3 - <<'END'\n${script}\nEND`)).toBe("udp!\n200003\n");
});
