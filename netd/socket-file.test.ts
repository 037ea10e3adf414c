import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { prepareRunDirectory, SocketFile } from "./socket-file.ts";

let directory: string;
let path: string;
let server: Server;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-socket-"));
  path = join(directory, "netd-1.sock");
  server = createServer((socket) => socket.destroy());
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

const listen = (at: string) => new Promise<void>((resolve) => server.listen(at, resolve));

async function isReachable(): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path, () => resolve(true)).on("error", () => resolve(false));
    socket.on("close", () => socket.destroy());
  });
}

describe("SocketFile", () => {
  it.each([
    ["nothing", () => {}],
    ["a file", () => writeFileSync(path, "x")],
    ["an empty directory", () => mkdirSync(path)],
    ["a dead link", () => symlinkSync("/nowhere", path)],
    ["a link to a file of somebody else", () => symlinkSync("/etc/passwd", path)],
  ])("gives the socket its name where there is %s", async (_, obstruct) => {
    obstruct();
    const file = new SocketFile(path);
    expect(file.isThere()).toBe(false);
    await file.place(listen);
    expect(lstatSync(path).isSocket()).toBe(true);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    expect(await isReachable()).toBe(true);
    expect(file.isThere()).toBe(true);
    expect(readdirSync(directory)).toEqual(["netd-1.sock"]);
    file.remove();
    expect(readdirSync(directory)).toEqual([]);
    expect(file.isThere()).toBe(false);
  });

  it("moves a directory with something in it aside", async () => {
    mkdirSync(join(path, "precious"), { recursive: true });
    const file = new SocketFile(path);
    await file.place(listen);
    expect(file.isThere()).toBe(true);
    const aside = readdirSync(directory).find((name) => name !== "netd-1.sock") ?? "";
    expect(aside).toMatch(/^netd-1\.sock\.\d+$/);
    expect(readdirSync(join(directory, aside))).toEqual(["precious"]);
  });

  it("notices that another has its place, and leaves that one alone", async () => {
    const file = new SocketFile(path);
    await file.place(listen);
    rmSync(path);
    writeFileSync(path, "another");
    expect(file.isThere()).toBe(false);
    file.remove();
    expect(lstatSync(path).isFile()).toBe(true);
  });

  it("refuses a path that the kernel would not take, before it does anything", () => {
    expect(() => new SocketFile(`/${"x".repeat(107)}`)).toThrow("at most 107 bytes");
  });
});

describe("prepareRunDirectory()", () => {
  it("makes it for its owner alone, and is content with what is there", () => {
    const run = join(directory, "a/b");
    prepareRunDirectory(run, 0);
    expect(statSync(run).mode & 0o777).toBe(0o700);
    chmodSync(run, 0o755);
    prepareRunDirectory(run, 0);
  });

  it.each([
    ["that others may write to", (run: string) => chmodSync(run, 0o777), "others than its owner may write"],
    ["of another user", (run: string) => chownSync(run, 12345, 0), "it belongs to user 12345"],
    [
      "that is none",
      (run: string) => (rmSync(run, { recursive: true }), writeFileSync(run, "")),
      "not a directory",
    ],
  ])("refuses one %s", (_, spoil, reason) => {
    const run = join(directory, "run");
    mkdirSync(run, { mode: 0o700 });
    spoil(run);
    expect(() => prepareRunDirectory(run, 0)).toThrow(`Cannot use run directory "${run}": ${reason}`);
  });
});
