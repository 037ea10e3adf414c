import { describe, expect, it } from "vitest";
import { listenFd } from "./listen-fds.ts";

const pid = 42;
const environment = (count: string, names?: string, forPid = "42") => ({
  LISTEN_PID: forPid,
  LISTEN_FDS: count,
  ...(names === undefined ? {} : { LISTEN_FDNAMES: names }),
});

describe("listenFd()", () => {
  it.each([
    ["the only one, whatever it is called", environment("1", "netctl-netd.socket"), 3],
    ["the only one, without names", environment("1"), 3],
    ["the one of that name", environment("3", "dns:netd:other"), 4],
    ["none for another process", environment("1", "netd", "41"), undefined],
    ["none of none", environment("0"), undefined],
    ["none for what is no number", environment("1x"), undefined],
    ["none without the variables", {}, undefined],
  ])("is %s", (_, variables, fd) => {
    expect(listenFd(variables, pid)).toBe(fd);
  });

  it("can't choose without names, nor by one beyond the count", () => {
    expect(() => listenFd(environment("2"), pid)).toThrow(
      'Cannot choose one of 2 sockets: LISTEN_FDNAMES "" has none called "netd"',
    );
    expect(() => listenFd(environment("2", "a:b:netd"), pid)).toThrow(RangeError);
  });
});
