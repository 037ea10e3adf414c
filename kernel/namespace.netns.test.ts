import { expect, it } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { NetworkNamespace } from "./namespace.ts";
import { NamespaceError } from "./namespace-error.ts";

it("NetworkNamespace.open() opens a bind mount, as `ip netns add` and runtimes make it", () => {
  using made = TestNamespace.create("open");
  const namespace = NetworkNamespace.open(made.path);
  expect(String(namespace.ino)).toBe(made.run("stat -Lc %i /proc/self/ns/net").trim());
  namespace.close();
});

it.each(["/proc/self/ns/uts", "/etc/passwd", "/dev/null"])("NetworkNamespace.open() refuses %s", (path) => {
  expect(() => NetworkNamespace.open(path)).toThrow(NamespaceError);
});
