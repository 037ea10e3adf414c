import { readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { native } from "#native/addon.ts";
import { Errno } from "#netlink/errno.ts";
import { encodeRequests } from "#netlink/message.ts";
import { type BundledChild, bundleChild } from "#testing/bundled-child.ts";
import { patience } from "#testing/patience.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { decodeLink, deleteLink, getLink, getLinks, newLink, setLink, vethPeer } from "./link.ts";
import { deleteLinkSoon, deleteLinksSoon } from "./link-deletion.ts";

let host: TestNamespace;
let container: TestNamespace;
let route: RouteSocket;
let inside: RouteSocket;

beforeEach(() => {
  host = TestNamespace.create("host");
  container = TestNamespace.create("container");
  route = new RouteSocket(host);
  inside = new RouteSocket(container);
});

afterEach(() => {
  route.close();
  inside.close();
  host.remove();
  container.remove();
});

function makeVeths(count: number): number[] {
  const names = Array.from({ length: count }, (_, index) => String(index));
  route.socket.transact(
    names.map((name) => {
      const peer = vethPeer({ name: `p${name}`, namespaceFd: inside.namespaceFd });
      return newLink({ name: `v${name}`, kind: "veth", up: true, veth: { peer } });
    }),
  );
  return names.map((name) => route.ifindex(host, `v${name}`));
}

const names = (socket: RouteSocket) => socket.all(getLinks(), decodeLink).map(({ name }) => name);
const openFiles = () => readdirSync("/proc/self/fd").length;
const threads = () => readdirSync("/proc/self/task").length;

describe("deleteLinkSoon()", () => {
  test("settles when the link and its peer are gone for everybody", async () => {
    const [ifindex = 0] = makeVeths(1);
    await deleteLinkSoon({ namespaceFd: route.namespaceFd, target: ifindex });
    // Synchronously after it: the rest of the kernel's call may still run.
    expect(() => route.send(getLink(ifindex))).toThrow(expect.objectContaining({ errno: Errno.ENODEV }));
    expect(names(route)).toEqual(["lo"]);
    expect(names(inside)).toEqual(["lo"]);
  });

  test("frees the name at once", async () => {
    for (let round = 0; round < 5; round++) {
      makeVeths(1);
      await deleteLinkSoon({ namespaceFd: route.namespaceFd, target: "v0" });
    }
    expect(names(route)).toEqual(["lo"]);
  });

  test("deletes several at a time, ports of a bridge too", async () => {
    host.run("ip link add br0 type bridge");
    const targets = makeVeths(6);
    for (const target of targets) host.run(`ip link set v${targets.indexOf(target)} master br0`);
    await Promise.all(targets.map((target) => deleteLinkSoon({ namespaceFd: route.namespaceFd, target })));
    expect(names(route)).toEqual(["lo", "br0"]);
  });

  test("does not take a link that leaves its bridge for one that is gone", async () => {
    host.run("ip link add br0 type bridge");
    const [port = 0, other = 0] = makeVeths(2);
    host.run("ip link set v0 master br0");
    // The kernel reports that with RTM_DELLINK as well. Here nothing deletes the port, so no news of it may settle this.
    const requests = encodeRequests([setLink(port, { master: 0 }), deleteLink(other)], 1, 0);
    const replies = await native().netlinkDeleteLinks(route.namespaceFd, requests, Int32Array.of(port));
    expect(replies).toBeInstanceOf(Uint8Array);
    expect(names(route)).toEqual(["lo", "br0", "v0"]);
  });

  test("reports what the kernel refuses", async () => {
    const { namespaceFd } = route;
    await expect(deleteLinkSoon({ namespaceFd, target: 999 })).rejects.toMatchObject({ errno: Errno.ENODEV });
    await expect(deleteLinkSoon({ namespaceFd, target: "nope" })).rejects.toMatchObject({
      errno: Errno.ENODEV,
    });
    await expect(deleteLinkSoon({ namespaceFd, target: "lo" })).rejects.toMatchObject({
      errno: Errno.EOPNOTSUPP,
      message: 'Cannot delete link "lo": not supported (EOPNOTSUPP)',
    });
  });

  test("leaves neither files nor threads behind", async () => {
    const [warm = 0, ...rest] = makeVeths(21);
    await deleteLinkSoon({ namespaceFd: route.namespaceFd, target: warm });
    const before = { files: openFiles(), threads: threads() };
    await Promise.all(rest.map((target) => deleteLinkSoon({ namespaceFd: route.namespaceFd, target })));
    await expect.poll(openFiles, { timeout: 20_000 * patience }).toBeLessThanOrEqual(before.files);
    await expect.poll(threads, { timeout: 20_000 * patience }).toBeLessThanOrEqual(before.threads + 4);
    expect(names(route)).toEqual(["lo"]);
  });
});

describe("deleteLinksSoon()", () => {
  test("deletes many at once and nothing else", async () => {
    const ifindexes = makeVeths(40);
    host.run("ip link add keep type veth peer keep-peer");
    await deleteLinksSoon({ namespaceFd: route.namespaceFd, ifindexes });
    expect(names(route).sort((a, b) => a.localeCompare(b))).toEqual(["keep", "keep-peer", "lo"]);
    expect(names(inside)).toEqual(["lo"]);
  });

  test("skips those that are gone", async () => {
    const ifindexes = makeVeths(3);
    await deleteLinksSoon({ namespaceFd: route.namespaceFd, ifindexes: [...ifindexes, 998, 999] });
    await deleteLinksSoon({ namespaceFd: route.namespaceFd, ifindexes });
    await deleteLinksSoon({ namespaceFd: route.namespaceFd, ifindexes: [] });
    expect(names(route)).toEqual(["lo"]);
  });

  test("deletes none where the kernel refuses one", async () => {
    const ifindexes = [...makeVeths(2), route.ifindex(host, "lo")];
    await expect(deleteLinksSoon({ namespaceFd: route.namespaceFd, ifindexes })).rejects.toMatchObject({
      errno: Errno.EOPNOTSUPP,
    });
    expect(names(route)).toHaveLength(3);
  });
});

describe("a process that ends with its deletion", () => {
  let child: BundledChild;

  beforeEach(async () => {
    child = await bundleChild(`
      import { openSync } from "node:fs";
      import { native } from "#native/addon.ts";
      import { deleteLinkSoon, deleteLinksSoon } from "#netlink/route/link-deletion.ts";

      const [path, ...indexes] = process.argv[2].split(" ");
      const namespaceFd = openSync(path, "r");
      const ifindexes = indexes.map(Number);
      native().deleteLinksByChild(true);
      const deletion =
        ifindexes.length === 1
          ? deleteLinkSoon({ namespaceFd, target: ifindexes[0] })
          : deleteLinksSoon({ namespaceFd, ifindexes });
      deletion.then(() => "gone", (error) => error.code).then((text) => {
        process.stdout.write(text);
        process.exit(0);
      });
    `);
  });
  afterEach(() => child.remove());

  const run = (ifindexes: readonly number[]) => child.run([host.path, ...ifindexes].join(" "));

  test("leaves the kernel's wait to a child, which keeps no pipe open", async () => {
    const [one = 0, ...others] = makeVeths(4);
    expect(await run([one])).toBe("gone");
    expect(await run(others)).toBe("gone");
    expect(host.json<{ ifname: string }>("ip -j link").map(({ ifname }) => ifname)).toEqual(["lo"]);
  });

  test("hears of what the kernel refuses", async () => {
    expect(await run([9999])).toBe("ENODEV");
    expect(await run([1])).toBe("EOPNOTSUPP");
  });
});
