import { describe, expect, it } from "vitest";
import { readEnvironment } from "./environment.ts";
import { CniError } from "./error.ts";

const complete = {
  CNI_CONTAINERID: "abc-1",
  CNI_NETNS: "/run/netns/a",
  CNI_IFNAME: "eth0",
  CNI_ARGS: "A=1",
  CNI_PATH: "/opt/cni/bin:/usr/lib/cni",
};

function errorOf(environment: Readonly<Record<string, string | undefined>>): CniError {
  try {
    readEnvironment(environment);
  } catch (error) {
    if (error instanceof CniError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

describe("readEnvironment()", () => {
  it("reads everything an attachment verb needs", () => {
    expect(readEnvironment({ ...complete, CNI_COMMAND: "ADD" })).toEqual({
      verb: "ADD",
      containerId: "abc-1",
      netns: "/run/netns/a",
      ifName: "eth0",
      args: "A=1",
      path: ["/opt/cni/bin", "/usr/lib/cni"],
      isNetnsOverridden: false,
    });
  });

  // SPEC.md 1.1.0, the inputs of each operation.
  it.each([
    ["ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"],
    ["CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"],
    ["DEL", "CNI_CONTAINERID,CNI_IFNAME"],
    ["GC", "CNI_PATH"],
  ])("%s without anything names all it needs: %s", (verb, missing) => {
    const error = errorOf({ CNI_COMMAND: verb, CNI_NETNS: "", CNI_IFNAME: undefined });
    expect([error.code, error.message]).toEqual([4, `required env variables [${missing}] missing`]);
  });

  it.each(["STATUS", "VERSION"])("%s needs nothing else", (verb) => {
    expect(readEnvironment({ CNI_COMMAND: verb }).verb).toBe(verb);
  });

  it("without CNI_COMMAND asks for it and judges nothing else", () => {
    expect(errorOf({ CNI_IFNAME: "a/b" }).message).toBe("required env variables [CNI_COMMAND] missing");
  });

  it.each(["add", "PATCH", "ADD ", "toString"])("refuses the command %j", (command) => {
    const error = errorOf({ ...complete, CNI_COMMAND: command });
    expect([error.code, error.message]).toEqual([4, `unknown CNI_COMMAND: ${command}`]);
  });

  it.each(["-a", ".a", "a/b", "a b", "a\n", "ä", "../x", "_x"])("refuses the container id %j", (id) => {
    const error = errorOf({ ...complete, CNI_COMMAND: "ADD", CNI_CONTAINERID: id });
    expect([error.code, error.message, error.details]).toEqual([4, "invalid characters in containerID", id]);
  });

  it.each([
    ["sixteen-bytes-xx", "interface name is too long", "interface name should be less than 16 characters"],
    ["..", "interface name is . or ..", ""],
    ["a:b", "interface name contains / or : or whitespace characters", ""],
  ])("refuses the interface name %j in the reference's words", (ifName, message, details) => {
    const error = errorOf({ ...complete, CNI_COMMAND: "DEL", CNI_IFNAME: ifName });
    expect([error.code, error.message, error.details]).toEqual([4, message, details]);
  });

  it("reports a malformed variable before the missing ones", () => {
    const error = errorOf({ CNI_COMMAND: "ADD", CNI_IFNAME: "a/b" });
    expect(error.message).toContain("interface name contains");
  });

  it("leaves alone what the verb does not use: podman sends dummies with VERSION", () => {
    const dummies = { CNI_NETNS: "dummy", CNI_IFNAME: "much/too/long/for/a/name", CNI_CONTAINERID: "/" };
    for (const verb of ["VERSION", "STATUS"])
      expect(readEnvironment({ ...dummies, CNI_COMMAND: verb }).verb).toBe(verb);
  });

  it.each([
    ["TRUE", true],
    ["true", true],
    ["1", true],
    ["yes", false],
    ["0", false],
    ["", false],
  ])("CNI_NETNS_OVERRIDE=%j is %s", (value, expected) => {
    const environment = { ...complete, CNI_COMMAND: "ADD", CNI_NETNS_OVERRIDE: value };
    expect(readEnvironment(environment).isNetnsOverridden).toBe(expected);
  });

  it("leaves empty parts of CNI_PATH out, which would mean the current directory", () => {
    expect(readEnvironment({ ...complete, CNI_COMMAND: "GC", CNI_PATH: ":/a::/b:" }).path).toEqual([
      "/a",
      "/b",
    ]);
  });
});
