import { expect, test } from "vitest";
import { CniError } from "#cni/error.ts";
import { NotABridgeError, UnsupportedByKernelError } from "#kernel/link-error.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import { IncompleteUndoError } from "#kernel/undo.ts";
import { IoError } from "#machine/io-error.ts";
import { LockTimeoutError } from "#machine/lock.ts";
import { parseIfName } from "#net/ifname.ts";
import { NetlinkError } from "#netlink/error.ts";
import { toCniError, withCniErrors } from "./failure.ts";

test.each<[Error, number]>([
  [new CniError(11, "pool is exhausted"), 11],
  [new NotABridgeError(parseIfName("br1"), "veth"), 7],
  [new NamespaceError("/run/netns/x", "not a network namespace"), 8],
  [
    new NamespaceError("/run/netns/x", "no descriptors", {
      cause: Object.assign(new Error("EMFILE"), { code: "EMFILE" }),
    }),
    11,
  ],
  [new UnsupportedByKernelError("use VLANs", "CONFIG_BRIDGE_VLAN_FILTERING"), 50],
  [new LockTimeoutError("/run/x", 10), 11],
  [new IoError("write", "/var/x", Object.assign(new Error("full"), { code: "ENOSPC" })), 5],
  [Object.assign(new Error("read-only"), { code: "EROFS" }), 5],
  [new NetlinkError({ errno: 1, op: "create link" }), 50],
  [new NetlinkError({ errno: 24, op: "open a netlink socket" }), 11],
  [new NetlinkError({ errno: 101, op: "add route" }), 7],
  [new NetlinkError({ errno: 22, op: "add route" }), 999],
  [new DOMException("gone", "AbortError"), 11],
  [new TypeError("x is not a function"), 999],
])("%s has code %i and keeps its message", (error, code) => {
  expect(toCniError(error)).toMatchObject({ code, message: error.message });
});

test("what could not be taken back stays attached, under the code of what went wrong", () => {
  const cause = new NotABridgeError(parseIfName("br1"), "veth");
  const left = new Error('Cannot take back link "veth0": it is busy');
  const error = toCniError(new IncompleteUndoError(cause, [left]));
  expect(error).toMatchObject({ code: 7, message: cause.message });
  expect((error.cause as AggregateError).errors).toEqual([left]);
});

test("a thrown thing that is no error still becomes one", () => {
  expect(toCniError("oops")).toMatchObject({ code: 999, message: "oops" });
});

test("withCniErrors() passes results through", async () => {
  expect(await withCniErrors(async () => 7)).toBe(7);
  await expect(withCniErrors(async () => Promise.reject(new Error("no")))).rejects.toBeInstanceOf(CniError);
});
