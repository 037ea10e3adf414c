import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LogFile, logFilePath, olderLogFile } from "./log-file.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-log-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe("LogFile", () => {
  it("makes the file and its directory for nobody else to read, again where they were taken away", () => {
    const path = join(directory, "log/netctl.log");
    const file = new LogFile(path);
    file.append("a\n");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "log")).mode & 0o777).toBe(0o700);
    rmSync(join(directory, "log"), { recursive: true });
    file.append("b\n");
    expect(readFileSync(path, "utf8")).toBe("b\n");
  });

  it("writes into the file that has the name now, whoever moved, replaced or emptied it", () => {
    const path = join(directory, "netctl.log");
    const file = new LogFile(path);
    file.append("a\n");
    renameSync(path, `${path}.old`);
    writeFileSync(path, "theirs\n");
    file.append("b\n");
    expect(readFileSync(`${path}.old`, "utf8")).toBe("a\n");
    expect(readFileSync(path, "utf8")).toBe("theirs\nb\n");
    truncateSync(path);
    file.append("c\n");
    expect(readFileSync(path, "utf8")).toBe("c\n");
  });

  it("begins anew where it is full, and keeps the one before", () => {
    const path = join(directory, "netctl.log");
    const file = new LogFile(path, 10);
    for (const line of ["first\n", "second\n", "third\n"]) file.append(line);
    expect(readFileSync(olderLogFile(path), "utf8")).toBe("first\nsecond\n");
    expect(readFileSync(path, "utf8")).toBe("third\n");
  });

  it("loses the line, and nothing else, where it can't be written", () => {
    mkdirSync(join(directory, "netctl.log"));
    new LogFile(join(directory, "netctl.log")).append("a\n");
    new LogFile("/proc/nowhere/netctl.log").append("a\n");
  });
});

describe("logFilePath()", () => {
  it("goes by NETCTL_LOG_FILE, then by the directory of state", () => {
    expect(logFilePath({})).toBe("/var/log/netctl/netctl.log");
    expect(logFilePath({ NETCTL_STATE_DIR: "/s" })).toBe("/s/log/netctl.log");
    expect(logFilePath({ NETCTL_STATE_DIR: "/s", NETCTL_LOG_FILE: "/l" })).toBe("/l");
  });
});
