import { expect, test } from "vitest";
import { hintsFor, type KnownContainer } from "./hints.ts";

const container = (
  label: string,
  networks: Readonly<Record<string, readonly [names: readonly string[], address: string]>>,
): KnownContainer => ({
  label,
  report: {
    state: "listening",
    networks: Object.entries(networks).map(([network, [names, address]]) => ({
      network,
      ifName: "eth0",
      names,
      addresses: [address],
      isInternal: false,
    })),
  },
});

const web = container("web", { front: [["web", "www"], "10.1.0.2/24"] });
const db = container("db", { Back: [["db", "primary"], "10.2.0.2/24"] });
const all = [web, db];
const hints = (name: string, address?: string, asker = web) => hintsFor({ name, address }, asker, all);

test("a name or address of a network that the container is not in is told", () => {
  expect(hints("db")).toEqual(["db is a name of db in network Back, in which web is not"]);
  expect(hints("DB.back.")).toEqual(["db.back is a name of db in network Back, in which web is not"]);
  expect(hints("2.0.2.10.in-addr.arpa", "10.2.0.2")).toEqual([
    "10.2.0.2 is the address of db in network Back, in which web is not",
  ]);
  expect(hints("web", undefined, db)).toHaveLength(1);
});

test("what was probably meant is told, of the container's networks and for names of ours alone", () => {
  expect(hints("wwww")).toEqual(["the nearest name there is: www"]);
  expect(hints("wep.front")).toEqual(["the nearest name there is: web"]);
  expect(hints("primery")).toEqual([]);
  expect(hints("www.example")).toEqual([]);
  expect(hints("web")).toEqual([]);
});

test("a container that nobody answers is told, and why", () => {
  const failed = { label: "web", report: { ...web.report, state: "failed", problem: "EADDRINUSE" } } as const;
  expect(hints("web", undefined, failed)).toEqual(["web itself is not answered: EADDRINUSE"]);
});
