import { describe, expect, it } from "vitest";
import { decodeResult } from "#cni/result-versions.ts";
import { renderHosts, renderResolvConf } from "./sandbox-files.ts";

const result = (addresses: readonly string[], dns: Record<string, string | readonly string[]> = {}) =>
  decodeResult({ ips: addresses.map((address) => ({ address })), dns }, "1.1.0");

describe("renderHosts()", () => {
  it("names the sandbox at each of its addresses", () => {
    expect(renderHosts("a", [result(["10.1.0.2/24", "fd01::2/64"]), result(["10.2.0.2/24"])])).toBe(
      [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "10.1.0.2\ta",
        "fd01::2\ta",
        "10.2.0.2\ta",
        "",
      ].join("\n"),
    );
  });
});

describe("renderResolvConf()", () => {
  it("takes servers and search lists of all networks, each once, and the first domain", () => {
    const results = [
      result([], { nameservers: ["10.1.0.1"], search: ["web.test"], options: ["ndots:0"] }),
      result([], {
        nameservers: ["10.1.0.1", "fd01::1"],
        domain: "db.test",
        search: ["db.test", "web.test"],
      }),
    ];
    expect(renderResolvConf(results)).toBe(
      "domain db.test\nsearch web.test db.test\nnameserver 10.1.0.1\nnameserver fd01::1\noptions ndots:0\n",
    );
  });

  it("is the resolver alone where there is one, with the host's search domains unless a network has some", () => {
    const host = "nameserver 192.0.2.53\nsearch corp.test\noptions ndots:3 rotate\n";
    const named = result([], { nameservers: ["127.0.0.11"] });
    expect(renderResolvConf([named, result([], { nameservers: ["10.1.0.1"] })], host)).toBe(
      "search corp.test\nnameserver 127.0.0.11\noptions ndots:3 rotate\n",
    );
    expect(renderResolvConf([named, result([], { search: ["web.test"], options: [] })], host)).toBe(
      "search web.test\nnameserver 127.0.0.11\n",
    );
    expect(renderResolvConf([result([], { nameservers: ["10.1.0.1"] })], host)).toBe("nameserver 10.1.0.1\n");
  });

  it("is none where no network names a server, so that the host's stays in place", () => {
    expect(renderResolvConf([result([], { search: ["web.test"] })])).toBeUndefined();
  });
});

describe("what a sandbox was asked for", () => {
  const dns = { servers: ["9.9.9.9"], search: ["x.test"], options: ["ndots:3"] };

  it("stands in its hosts: a host name, further lines, and the host itself", () => {
    const withGateway = decodeResult(
      { ips: [{ address: "10.1.0.2/24", gateway: "10.1.0.1" }], dns: {} },
      "1.1.0",
    );
    const extraHosts = [
      { name: "db", address: "10.9.0.1" },
      { name: "outer", address: "host-gateway" },
    ];
    const text = renderHosts("a", [withGateway], { hostname: "app1", extraHosts });
    expect(text.split("\n").slice(2)).toEqual(["10.1.0.2\tapp1 a", "10.9.0.1\tdb", "10.1.0.1\touter", ""]);
    expect(renderHosts("a", [result(["10.1.0.2/24"])], { extraHosts })).not.toContain("outer");
  });

  it("comes before what networks and host say, but the resolver stays", () => {
    expect(renderResolvConf([result([])], "", dns)).toBe(
      "search x.test\nnameserver 9.9.9.9\noptions ndots:3\n",
    );
    expect(renderResolvConf([result([], { nameservers: ["1.1.1.1"] })], "", dns)).toContain(
      "nameserver 9.9.9.9\n",
    );
    expect(renderResolvConf([result([], { nameservers: ["127.0.0.11"] })], "search h.test\n", dns)).toBe(
      "search x.test\nnameserver 127.0.0.11\noptions ndots:3\n",
    );
    const search = { servers: [], search: ["."], options: [] };
    expect(renderResolvConf([], "search h.test\nnameserver 192.0.2.1\n", search)).toBe(
      "nameserver 192.0.2.1\n",
    );
  });
});
