import { expect, test } from "vitest";
import { formatIp, parseIp } from "#net/ip.ts";
import type { NamedAttachment } from "./registry.ts";
import { Snapshot } from "./snapshot.ts";

const attachment = (
  containerId: string,
  names: readonly string[],
  address: string,
  network = "n",
): NamedAttachment => ({ network, containerId, ifName: "eth0", names, addresses: [`${address}/24`] });

const addressesOf = (snapshot: Snapshot, network: string, ...names: string[]) =>
  snapshot
    .named(network, names)
    .flatMap((host) => host.addresses.map(formatIp))
    .sort();

test("finds each of several that share a name, once, and none of another network", () => {
  const snapshot = new Snapshot();
  snapshot.add(attachment("a", ["web", "web.n", "web"], "10.0.0.1"));
  snapshot.add(attachment("b", ["web"], "10.0.0.2"));
  snapshot.add(attachment("c", ["web"], "10.0.0.3", "other"));
  expect(addressesOf(snapshot, "n", "web", "web.n")).toEqual(["10.0.0.1", "10.0.0.2"]);
  expect(addressesOf(snapshot, "other", "web")).toEqual(["10.0.0.3"]);
  expect(addressesOf(snapshot, "n", "nobody")).toEqual([]);
});

test("an address is the last one's that came with it, and nobody's when that one has gone", () => {
  const snapshot = new Snapshot();
  const address = parseIp("10.0.0.1");
  const [first, second] = [attachment("a", ["first"], "10.0.0.1"), attachment("b", ["second"], "10.0.0.1")];
  snapshot.add(first);
  snapshot.add(second);
  expect(snapshot.at("n", address)?.names).toEqual(["second"]);
  snapshot.remove(first);
  expect(snapshot.at("n", address)?.names).toEqual(["second"]);
  snapshot.remove(second);
  expect(snapshot.at("n", address)).toBeUndefined();
});

test("forgets what an attachment was called before, and a network with its last member", () => {
  const snapshot = new Snapshot();
  snapshot.add({ ...attachment("a", ["old"], "10.0.0.1"), domain: "corp.example" });
  snapshot.add(attachment("a", ["new"], "10.0.1.1"));
  expect(addressesOf(snapshot, "n", "old")).toEqual([]);
  expect(addressesOf(snapshot, "n", "new")).toEqual(["10.0.1.1"]);
  expect([...(snapshot.network("n")?.domains.keys() ?? [])]).toEqual([]);
  expect([...(snapshot.network("n")?.subnets.keys() ?? [])]).toEqual(["10.0.1.0/24"]);
  snapshot.remove(attachment("a", [], "10.0.1.1"));
  expect(snapshot.network("n")).toBeUndefined();
});
