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

const ready = 'print("ready", flush=True); time.sleep(60)';

/** Runs Python lines with `s(family, type, address, port)` at hand, until the test ends. */
async function listen(...lines: readonly string[]): Promise<number> {
  const program = [
    "import socket, time",
    "I4, I6, T, U = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM",
    "keep = []",
    "def s(f, t, a, p, only=0):",
    "    x = socket.socket(f, t); keep.append(x)",
    "    if f == I6: x.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)",
    "    x.bind((a, p))",
    "    if t == T: x.listen()",
    "    return x",
    ...lines,
    ready,
  ].join("\n");
  const child = spawn("nsenter", [`--net=${host.path}`, "python3", "-c", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  await new Promise((resolve) => child.stdout?.once("data", resolve));
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
    await listen(
      "s(I4, T, '0.0.0.0', 80)",
      "s(I4, T, '192.0.2.1', 81)",
      "s(I6, T, '::', 82)",
      "s(I6, T, '::', 83, 1)",
      "s(I6, T, '2001:db8::1', 84)",
      "s(I6, T, '::ffff:192.0.2.1', 85)",
      "s(I4, U, '127.0.0.1', 53)",
      "s(I6, U, '::', 54)",
    );
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
    await listen(
      "l = s(I4, T, '127.0.0.1', 80); c = socket.create_connection(('127.0.0.1', 80)); keep += [c, l.accept()[0]]",
      "u = s(I4, U, '127.0.0.1', 99); u.connect(('127.0.0.1', 53))",
      "keep.append(socket.socket(I4, U)); keep.append(socket.socket(I4, T))",
    );
    expect(shown()).toEqual(["tcp 127.0.0.1 80 4"]);
  });

  it("leads to the process", async () => {
    const pid = await listen("s(I4, T, '0.0.0.0', 80)");
    const [listener] = readListeners(namespace, ["tcp"]);
    const owner = await findSocketOwner(listener?.inode ?? 0);
    expect(owner).toMatchObject({ pid, name: expect.stringMatching(/^python3/) as unknown });
    expect(owner?.commandLine.join(" ")).toContain("I4, I6");
    expect(await findSocketOwner(0)).toBeUndefined();
  });
});
