import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NftJsonError, parseNftJson } from "./json.ts";

/** Printed by nft 1.0.6 on kernel 6.18 for `nft -j list table inet t`. */
const captured = String.raw`{"nftables": [
  {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
  {"table": {"family": "inet", "name": "t", "handle": 4}},
  {"counter": {"family": "inet", "name": "cn", "table": "t", "handle": 7, "packets": 0, "bytes": 0}},
  {"map": {"family": "inet", "name": "m", "table": "t", "type": ["inet_proto", "inet_service"], "handle": 1, "map": "ipv4_addr . inet_service", "elem": [[{"concat": ["udp", 53]}, {"concat": ["10.0.0.2", 53]}], [{"elem": {"val": {"concat": ["tcp", 80]}, "comment": "own er"}}, {"concat": ["10.0.0.1", 80]}]]}},
  {"map": {"family": "inet", "name": "v", "table": "t", "type": "ifname", "handle": 2, "map": "verdict", "elem": [[{"elem": {"val": "x", "comment": "z"}}, {"drop": null}], ["eth0", {"jump": {"target": "c"}}]]}},
  {"map": {"family": "inet", "name": "r", "table": "t", "type": ["inet_proto", "inet_service"], "handle": 5, "map": "ipv4_addr", "flags": ["interval"], "elem": [[{"elem": {"val": {"concat": ["tcp", {"range": [8000, 8010]}]}, "comment": "q", "counter": {"packets": 0, "bytes": 0}}}, "10.0.0.1"]], "stmt": [{"counter": null}]}},
  {"set": {"family": "inet", "name": "to", "table": "t", "type": "ipv4_addr", "handle": 6, "flags": ["timeout"], "timeout": 3600, "elem": [{"elem": {"val": "1.2.3.4", "expires": 3600}}]}},
  {"chain": {"family": "inet", "table": "t", "name": "c", "handle": 3}},
  {"chain": {"family": "inet", "table": "t", "name": "c2", "handle": 4}},
  {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 8, "comment": "rule c", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "1.2.3.4"}}, {"counter": {"packets": 0, "bytes": 0}}, {"jump": {"target": "c2"}}]}}
]}`;

describe("parseNftJson", () => {
  const listing = parseNftJson(captured);
  const set = (name: string) => listing.sets.find((set) => set.name === name);

  it("reads tables, chains and nft's version", () => {
    expect(listing.nftVersion).toBe("1.0.6");
    expect(listing.tables).toEqual([{ family: "inet", name: "t", handle: 4, flags: [] }]);
    expect(listing.chains.map((chain) => chain.name)).toEqual(["c", "c2"]);
  });

  it("reads the hook of a base chain", () => {
    const { chains } = parseNftJson(
      '{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "p", "handle": 1, "type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}}]}',
    );
    expect(chains[0]?.base).toEqual({
      type: "nat",
      hook: "postrouting",
      priority: 100,
      policy: "accept",
      devices: [],
    });
  });

  it("reads a map with concatenated key and value, with and without comments", () => {
    expect(set("m")).toMatchObject({
      key: ["inet_proto", "inet_service"],
      value: ["ipv4_addr", "inet_service"],
    });
    expect(set("m")?.elements).toEqual([
      { key: ["udp", 53], value: ["10.0.0.2", 53] },
      { key: ["tcp", 80], value: ["10.0.0.1", 80], comment: "own er" },
    ]);
  });

  it("reads verdicts, ranges, counters and timeouts", () => {
    expect(set("v")?.elements).toEqual([
      { key: ["x"], value: [{ drop: null }], comment: "z" },
      { key: ["eth0"], value: [{ jump: { target: "c" } }] },
    ]);
    expect(set("r")?.elements).toEqual([
      {
        key: ["tcp", { range: [8000, 8010] }],
        value: ["10.0.0.1"],
        comment: "q",
        counter: { packets: 0, bytes: 0 },
      },
    ]);
    expect(set("to")).toMatchObject({
      flags: ["timeout"],
      elements: [{ key: ["1.2.3.4"], expiresSeconds: 3600 }],
    });
  });

  it("reads where a rule leads, its counter and its comment", () => {
    expect(listing.rules).toMatchObject([
      {
        chain: "c",
        comment: "rule c",
        verdict: { kind: "jump", target: "c2" },
        counter: { packets: 0, bytes: 0 },
      },
    ]);
  });

  it("keeps what it does not know", () => {
    expect(listing.other).toEqual([
      { kind: "counter", body: { family: "inet", name: "cn", table: "t", handle: 7, packets: 0, bytes: 0 } },
    ]);
  });

  it("refuses what is no listing, with what it saw", () => {
    expect(() => parseNftJson("Error: no")).toThrow(NftJsonError);
    expect(() => parseNftJson("Error: no")).toThrow('"Error: no" is not JSON');
    expect(() => parseNftJson("[]")).toThrow('there is no list "nftables"');
  });

  it("takes any JSON of an nft to come", () => {
    fc.assert(
      fc.property(
        fc.array(fc.jsonValue()),
        fc.constantFrom("table", "chain", "set", "map", "rule", "new"),
        (bodies, kind) => {
          const objects = [...bodies, ...bodies.map((body) => ({ [kind]: body }))];
          const { tables, chains, sets, rules, other } = parseNftJson(JSON.stringify({ nftables: objects }));
          const known = tables.length + chains.length + sets.length + rules.length + other.length;
          const metainfo = objects.filter(
            (object) => typeof object === "object" && object !== null && "metainfo" in object,
          );
          expect(known + metainfo.length).toBe(objects.length);
        },
      ),
    );
  });
});
