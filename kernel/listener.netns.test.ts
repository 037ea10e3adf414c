import { type ChildProcess, spawn } from "node:child_process";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findSocketOwner } from "#machine/socket-owner.ts";
import { formatIp } from "#net/ip.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { readListeners } from "./listener.ts";
import { NetworkNamespace } from "./namespace.ts";

let host: TestNamespace;
let namespace: NetworkNamespace;
const children: ChildProcess[] = [];

beforeEach(() => {
  host = TestNamespace.create("listener");
  host.run("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo nodad");
  namespace = NetworkNamespace.open(host.path);
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  namespace.close();
  host.remove();
});

const preamble = `
const net = require("node:net"), dgram = require("node:dgram");
const tcp = (host, port, ipv6Only = false) => new Promise((resolve) => {
  const server = net.createServer();
  server.listen({ host, port, ipv6Only }, () => resolve(server));
});
const udp = (type, address, port) => new Promise((resolve) => {
  const socket = dgram.createSocket(type);
  socket.bind(port, address, () => resolve(socket));
});
setTimeout(() => {}, 600_000);
`;

/** Runs a program with `tcp()` and `udp()` at hand, until the test ends. @returns its process id */
async function listen(program: string): Promise<number> {
  const script = `${preamble}(async () => { ${program}; console.log("ready"); })();`;
  const child = spawn("nsenter", [`--net=${host.path}`, process.execPath, "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return child.pid ?? 0;
}

function shown(protocols: Parameters<typeof readListeners>[1] = ["tcp", "udp", "sctp"]): string[] {
  return readListeners(namespace, protocols)
    .map(
      ({ protocol, address, port, families }) =>
        `${protocol} ${formatIp(address)} ${port} ${families.join("+")}`,
    )
    .sort();
}

describe("readListeners", () => {
  it("tells which addresses and families a socket takes", async () => {
    await listen(`
      await tcp("0.0.0.0", 80); await tcp("192.0.2.1", 81); await tcp("::", 82); await tcp("::", 83, true);
      await tcp("2001:db8::1", 84); await tcp("::ffff:192.0.2.1", 85);
      await udp("udp4", "127.0.0.1", 53); await udp("udp6", "::", 54)`);
    expect(shown()).toEqual([
      "tcp 0.0.0.0 80 4",
      "tcp 192.0.2.1 81 4",
      "tcp 192.0.2.1 85 4",
      "tcp 2001:db8::1 84 6",
      "tcp :: 82 4+6",
      "tcp :: 83 6",
      "udp 127.0.0.1 53 4",
      "udp :: 54 4+6",
    ]);
    expect(shown(["udp"])).toHaveLength(2);
  });

  it("leaves out connections, and sockets that are not bound", async () => {
    await listen(`
      await tcp("127.0.0.1", 80);
      await new Promise((resolve) => net.connect(80, "127.0.0.1", resolve));
      const socket = await udp("udp4", "127.0.0.1", 99);
      await new Promise((resolve) => socket.connect(53, "127.0.0.1", resolve));
      dgram.createSocket("udp4")`);
    expect(shown()).toEqual(["tcp 127.0.0.1 80 4"]);
  });

  it("leads to the process", async () => {
    const pid = await listen('await tcp("0.0.0.0", 80)');
    const [listener] = readListeners(namespace, ["tcp"]);
    const owner = await findSocketOwner(listener?.inode ?? 0);
    expect(owner).toMatchObject({ pid, name: expect.stringMatching(/^node/) as unknown });
    expect(owner?.commandLine.join(" ")).toContain("await tcp");
    expect(await findSocketOwner(0)).toBeUndefined();
  });
});
