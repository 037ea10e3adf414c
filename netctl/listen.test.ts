import { describe, expect, test } from "vitest";
import { parseListen } from "./listen.ts";

describe("parseListen()", () => {
  test.each([
    ["127.0.0.1:0", { host: "127.0.0.1", port: 0 }],
    ["localhost:80", { host: "127.0.0.1", port: 80 }],
    ["[::1]:7654", { host: "::1", port: 7654 }],
    ["unix:ui", { path: "/work/ui" }],
  ])("reads %s", (text, wanted) => {
    expect(parseListen(text, "/work")).toEqual(wanted);
  });

  test.each(["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "example.com:80", "128.0.0.1:1"])(
    "refuses %s, which others can reach",
    (text) => {
      expect(() => parseListen(text, "/")).toThrow(/is not this machine's loopback/);
    },
  );

  test.each(["80", "127.0.0.1", "127.0.0.1:70000", "unix:", ""])("refuses %j", (text) => {
    expect(() => parseListen(text, "/")).toThrow(/expected 127.0.0.1:PORT/);
  });
});
