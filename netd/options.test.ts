import { describe, expect, it } from "vitest";
import { readOptions } from "./options.ts";

describe("readOptions()", () => {
  it("has defaults for all", () => {
    expect(readOptions({}, 1)).toEqual({
      runDirectory: "/run/netctl",
      idleExitMs: 0,
      logLevel: "info",
      logFile: "/var/log/netctl/netctl.log",
      logsToStderr: true,
      resolvConf: "/etc/resolv.conf",
    });
  });

  it("reads what is set", () => {
    const environment = {
      NETCTL_RUN_DIR: "/r",
      NETCTL_IDLE_EXIT_SECONDS: "7",
      NETCTL_LOG_LEVEL: "debug",
      NETCTL_LOG_FILE: "/l",
      NETCTL_NETD_LOCK_FD: "3",
      NETCTL_NETD_CGROUP: "none",
      NETCTL_RESOLV_CONF: "/rc",
      LISTEN_PID: "1",
      LISTEN_FDS: "1",
    };
    expect(readOptions(environment, 1)).toEqual({
      runDirectory: "/r",
      idleExitMs: 7000,
      logLevel: "debug",
      logFile: "/l",
      logsToStderr: false,
      lockFd: 3,
      cgroup: "none",
      resolvConf: "/rc",
      listenFd: 3,
    });
  });

  it("names the variable and its value where it can't be used", () => {
    expect(() => readOptions({ NETCTL_IDLE_EXIT_SECONDS: "-1" }, 1)).toThrow(
      'Cannot use NETCTL_IDLE_EXIT_SECONDS "-1": expected a whole number',
    );
    expect(() => readOptions({ NETCTL_LOG_LEVEL: "loud" }, 1)).toThrow(
      'Cannot use NETCTL_LOG_LEVEL "loud": expected trace, debug',
    );
  });
});
