import { execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { LockOperation, native } from "./addon.ts";
import { libDirectory } from "./lib-directory.ts";

/** include/linux/socket.h, include/linux/net.h */
const inet = 2;
const datagram = 2;

let namespace: TestNamespace;
let namespaceFd: number;
let directory: string;

beforeEach(() => {
  namespace = TestNamespace.create("native");
  namespaceFd = openSync(namespace.path, "r");
  directory = mkdtempSync(join(tmpdir(), "netctl-native-"));
});

afterEach(() => {
  closeSync(namespaceFd);
  namespace.remove();
  rmSync(directory, { recursive: true, force: true });
});

/** The namespace that every thread of this process is in. */
function threadNamespaces(): Set<string> {
  const tasks = readdirSync("/proc/self/task");
  return new Set(tasks.map((task) => readlinkSync(`/proc/self/task/${task}/ns/net`)));
}

describe("a call in another namespace", () => {
  test("leaves every thread in its own, however often and whatever runs besides", async () => {
    const own = readlinkSync("/proc/self/ns/net");
    // Work on the pool while the main thread comes and goes, so that threads are started meanwhile.
    const reads = Array.from({ length: 50 }, async () => readFile("/proc/self/stat", "utf8"));
    for (let round = 0; round < 500; round++) {
      closeSync(native().socketIn(namespaceFd, inet, datagram, 0));
      closeSync(native().netlinkOpen(namespaceFd, 0).fd);
      native().readFileIn(namespaceFd, "/proc/sys/net/ipv4/ip_forward");
      if (round % 100 === 0)
        expect(execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" }).trim()).toBe(own);
    }
    await Promise.all(reads);
    expect(threadNamespaces()).toEqual(new Set([own]));
  });

  test("leaves every thread in its own after a failure inside", () => {
    const own = readlinkSync("/proc/self/ns/net");
    expect(() => native().socketIn(namespaceFd, 77, datagram, 0)).toThrow(
      expect.objectContaining({ code: "EAFNOSUPPORT", errno: 97, syscall: "socket" }),
    );
    expect(() => native().readFileIn(namespaceFd, "/proc/sys/net/nope")).toThrow(
      expect.objectContaining({ code: "ENOENT", syscall: "open" }),
    );
    expect(native().writeFilesIn(namespaceFd, ["/proc/sys/net/ipv4/ip_forward", "x"])).toEqual([22]);
    expect(() => native().writeFilesIn(namespaceFd, ["/proc/sys/net/ipv4/ip_forward"])).toThrow(TypeError);
    expect(() => native().socketIn(999_999, inet, datagram, 0)).toThrow(
      expect.objectContaining({ code: "EBADF" }),
    );
    const file = openSync("/etc/hostname", "r");
    expect(() => native().socketIn(file, inet, datagram, 0)).toThrow(
      expect.objectContaining({ code: "EINVAL" }),
    );
    closeSync(file);
    expect(threadNamespaces()).toEqual(new Set([own]));
  });

  test("works in a Worker, whose thread stays where it was too", async () => {
    const script = `
      const { workerData, parentPort } = require("node:worker_threads");
      const { readlinkSync } = require("node:fs");
      const addon = { exports: {} };
      process.dlopen(addon, workerData.addon);
      const text = addon.exports.readFileIn(workerData.namespaceFd, "/proc/thread-self/net/dev");
      parentPort.postMessage({ text, after: readlinkSync("/proc/thread-self/ns/net") });`;
    const addon = join(import.meta.dirname, "../dist/lib/native.node");
    namespace.run("ip link add only-here type veth peer b0");
    const worker = new Worker(script, { eval: true, workerData: { addon, namespaceFd } });
    const [message] = (await once(worker, "message")) as [{ text: string; after: string }];
    expect(message.text).toContain("only-here");
    expect(message.after).toBe(readlinkSync("/proc/self/ns/net"));
    await worker.terminate();
  });
});

test("socketIn() gives a socket with which Node sends in that namespace", async () => {
  const script = `
    const socket = require("node:dgram").createSocket("udp4");
    socket.bind(5353, "127.0.0.1", () => console.log("listening"));
    socket.on("message", (message) => { console.log(String(message)); process.exit(0); });`;
  const listener = spawn("nsenter", [`--net=${namespace.path}`, process.execPath, "-e", script]);
  await once(listener.stdout, "data");
  const socket = createSocket("udp4");
  const listening = once(socket, "listening");
  socket.bind({ fd: native().socketIn(namespaceFd, inet, datagram, 0) });
  await listening;
  const heard = once(listener.stdout, "data") as Promise<[Buffer]>;
  socket.send("from outside", 5353, "127.0.0.1");
  expect(String((await heard)[0])).toBe("from outside\n");
  socket.close();
});

test("writeFilesIn() sets sysctls there, and nowhere else, and goes on after one that fails", () => {
  const key = "/proc/sys/net/ipv4/ip_forward";
  const other = "/proc/sys/net/ipv4/ip_default_ttl";
  const before = readFileSync(key, "utf8");
  expect(native().writeFilesIn(namespaceFd, [key, "1", "/proc/sys/net/nope", "1", other, "77"])).toEqual([
    0, 2, 0,
  ]);
  expect(native().readFileIn(namespaceFd, key)).toBe("1\n");
  expect(namespace.run("cat /proc/sys/net/ipv4/ip_forward")).toBe("1\n");
  expect(namespace.run(`cat ${other}`)).toBe("77\n");
  native().writeFilesIn(namespaceFd, [key, "0"]);
  expect(namespace.run("cat /proc/sys/net/ipv4/ip_forward")).toBe("0\n");
  expect(readFileSync(key, "utf8")).toBe(before);
});

test("readFileIn() reads sysctls of links that only that namespace has", () => {
  namespace.run("ip link add only-here type veth peer b0");
  expect(native().readFileIn(namespaceFd, "/proc/sys/net/ipv6/conf/only-here/disable_ipv6")).toBe("0\n");
  expect(() => native().readFileIn(-1, "/proc/sys/net/ipv6/conf/only-here/disable_ipv6")).toThrow(
    expect.objectContaining({ code: "ENOENT" }),
  );
});

test("netlinkClose() closes for good, also without waiting", async () => {
  const netfilter = 12;
  const isOpen = (port: number) => namespace.run("cat /proc/net/netlink").includes(` ${port} `);
  for (const waits of [true, false]) {
    const { fd, port } = native().netlinkOpen(namespaceFd, netfilter);
    expect(isOpen(port)).toBe(true);
    native().netlinkClose(fd, waits);
    expect(existsSync(`/proc/self/fd/${fd}`)).toBe(false);
    await expect.poll(() => isOpen(port), { timeout: 20_000 }).toBe(false);
  }
});

describe("useOwnProc()", () => {
  afterEach(() => native().useOwnProc(false));

  test("shows each namespace its own sysctls, also after the procfs was replaced", () => {
    const key = "/proc/sys/net/ipv4/ip_default_ttl";
    const own = readFileSync(key, "utf8");
    native().useOwnProc(true);
    for (let round = 0; round < 150; round++) {
      const value = `${1 + round}`;
      expect(native().writeFilesIn(namespaceFd, [key, value, "/proc/sys/net/nope", "1"])).toEqual([0, 2]);
      expect(native().readFileIn(namespaceFd, key)).toBe(`${value}\n`);
      expect(native().readFileIn(-1, key)).toBe(own);
    }
    expect(namespace.run(`cat ${key}`)).toBe("150\n");
    expect(readFileSync(key, "utf8")).toBe(own);
  });

  test("opens other files where they are, and is no mount that anybody sees", () => {
    native().useOwnProc(true);
    expect(native().readFileIn(namespaceFd, "/proc/version")).toBe(readFileSync("/proc/version", "utf8"));
    // Others on this machine mount things meanwhile.
    const procMounts = () =>
      readFileSync("/proc/self/mountinfo", "utf8")
        .split("\n")
        .filter((line) => line.includes(" - proc "));
    const mounts = procMounts();
    native().readFileIn(namespaceFd, "/proc/sys/net/ipv4/ip_forward");
    expect(procMounts()).toEqual(mounts);
  });

  test("is no way around a /proc/sys that is read-only", () => {
    const script = `const native = require(${JSON.stringify(join(libDirectory(), "native.node"))});
      native.useOwnProc(true);
      console.log(native.writeFilesIn(-1, ["/proc/sys/net/ipv4/ip_default_ttl", "77"]).join());`;
    const remount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys";
    const inside = `${remount} && exec "$0" -e "$1"`;
    const report = execFileSync(
      "nsenter",
      [`--net=${namespace.path}`, "unshare", "-m", "sh", "-c", inside, process.execPath, script],
      { encoding: "utf8" },
    );
    expect(report).toBe("30\n");
  });
});

test("flock() gives a lock to one at a time", () => {
  const path = join(directory, "lock");
  const one = openSync(path, "w");
  const two = openSync(path, "w");
  const { Exclusive, NonBlocking, Shared, Unlock } = LockOperation;
  expect(native().flock(one, Exclusive | NonBlocking)).toBe(true);
  expect(native().flock(two, Exclusive | NonBlocking)).toBe(false);
  expect(native().flock(two, Shared | NonBlocking)).toBe(false);
  expect(native().flock(one, Unlock)).toBe(true);
  expect(native().flock(two, Exclusive | NonBlocking)).toBe(true);
  closeSync(two);
  expect(native().flock(one, Exclusive | NonBlocking)).toBe(true);
  closeSync(one);
  expect(() => native().flock(one, Exclusive | NonBlocking)).toThrow(
    expect.objectContaining({ code: "EBADF" }),
  );
});

describe("createNamespace()", () => {
  test("makes one that lives on its file alone, and removeNamespace() takes it away", () => {
    const path = join(directory, "netns");
    const own = readlinkSync("/proc/self/ns/net");
    native().createNamespace(path);
    try {
      const inside = execFileSync(
        "nsenter",
        [`--net=${path}`, "sh", "-c", "readlink /proc/self/ns/net; ip -o link"],
        {
          encoding: "utf8",
        },
      );
      expect(inside).toMatch(/^net:\[\d+\]\n1: lo: /);
      expect(inside).not.toContain(own);
      expect(threadNamespaces()).toEqual(new Set([own]));
      expect(() => native().createNamespace(path)).toThrow(expect.objectContaining({ code: "EEXIST" }));
    } finally {
      native().removeNamespace(path);
    }
    expect(existsSync(path)).toBe(false);
    native().removeNamespace(path);
    expect(readFileSync("/proc/self/mounts", "utf8")).not.toContain(path);
  });

  test("leaves no file behind where it fails", () => {
    expect(() => native().createNamespace(join(directory, "no/such/folder"))).toThrow(
      expect.objectContaining({ code: "ENOENT" }),
    );
    expect(() => native().createNamespace("x".repeat(5000))).toThrow(
      expect.objectContaining({ code: "ENAMETOOLONG" }),
    );
    expect(() => native().createNamespace("with\0nul")).toThrow(expect.objectContaining({ code: "EINVAL" }));
    expect(readdirSync(directory)).toEqual([]);
  });
});

test("peerUid() tells who connected", async () => {
  const path = join(directory, "socket");
  const server = createServer().listen(path);
  await once(server, "listening");
  // Not root, so that the answer is not the default of anything.
  const script = `process.setuid(65534); require("node:net").connect(${JSON.stringify(path)})`;
  chmodSync(directory, 0o755);
  chmodSync(path, 0o777);
  const client = spawn(process.execPath, ["-e", script]);
  const [socket] = (await once(server, "connection")) as [Socket];
  const handle = Reflect.get(socket, "_handle") as { readonly fd: number };
  expect(native().peerUid(handle.fd)).toBe(65534);
  socket.destroy();
  server.close();
  client.kill();
});

test("forgetProgramPages() lets go of what only a start has needed, and the program goes on", () => {
  const script = `
    const { readFileSync } = require("node:fs");
    const { forgetProgramPages } = require(process.argv[1]);
    const fileKiB = () => Number(/RssFile:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "latin1"))[1]);
    const before = fileKiB();
    forgetProgramPages();
    const after = fileKiB();
    const sum = require("node:crypto").createHash("sha512").update(JSON.stringify([new Date(0)])).digest("hex");
    console.log(JSON.stringify({ before, after, sum: new Intl.NumberFormat("en").format(sum.length * 1000) }));
  `;
  // With large pages Node's text is in no file any more: to let go of it would be the end.
  for (const flags of [[], ["--use-largepages=on"]]) {
    const words = [...flags, "-e", script, join(libDirectory(), "native.node")];
    const { before, after, sum } = JSON.parse(
      execFileSync(process.execPath, words, { encoding: "utf8" }),
    ) as {
      readonly before: number;
      readonly after: number;
      readonly sum: string;
    };
    expect(after).toBeLessThan(before / 2);
    expect(sum).toBe("128,000");
  }
});

test("every call refuses arguments of another type instead of guessing", () => {
  const calls = native() as unknown as Record<string, (...values: unknown[]) => unknown>;
  const withoutArguments = ["pollerCreate", "eventFd", "keepMallocSmall", "trimMalloc", "forgetProgramPages"];
  for (const [name, call] of Object.entries(calls)) {
    if (withoutArguments.includes(name)) continue;
    expect(() => call(), name).toThrow(TypeError);
    expect(() => call({}, {}, {}, {}), name).toThrow(TypeError);
  }
  expect(() => calls["netlinkExchange"]?.(1, new Uint16Array(4))).toThrow(TypeError);
  expect(() => calls["netlinkDeleteLinks"]?.(-1, new Uint8Array(4), new Int32Array(0))).toThrow(TypeError);
});
