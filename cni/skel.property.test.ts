import * as fc from "fast-check";
import { expect, it } from "vitest";
import { oneAddress, trivialHost, trivialPlugin } from "#testing/trivial-plugin.ts";
import { runVerb } from "./skel.ts";
import { cniVersions } from "./version.ts";

const rarely = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>) =>
  fc.oneof({ arbitrary: usual, weight: 6 }, { arbitrary: odd, weight: 1 });

const environment = fc.record(
  {
    CNI_COMMAND: rarely(fc.constantFrom("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"), fc.string()),
    CNI_CONTAINERID: rarely(fc.constantFrom("c1", "a_b-c.d"), fc.string({ unit: "binary" })),
    CNI_NETNS: rarely(
      fc.constantFrom("/run/netns/a", "/gone", "/invalid", "/host", ""),
      fc.string({ unit: "binary" }),
    ),
    CNI_IFNAME: rarely(fc.constantFrom("eth0", "lo"), fc.string({ unit: "binary" })),
    CNI_ARGS: rarely(fc.constantFrom("", "IgnoreUnknown=1;IP=10.0.0.1"), fc.string()),
    CNI_PATH: rarely(fc.constantFrom("/opt/cni/bin", "/a:/b"), fc.string()),
    CNI_NETNS_OVERRIDE: fc.constantFrom("", "1", "x"),
  },
  { requiredKeys: [] },
);

const json = fc.jsonValue({ maxDepth: 3 });
const result = fc.record(
  {
    cniVersion: rarely(fc.constantFrom<unknown>(...cniVersions), json),
    ips: rarely<unknown>(fc.constant([{ address: "10.0.0.5/24", interface: 0 }]), json),
    ip4: rarely<unknown>(fc.constant({ ip: "10.0.0.5/24" }), json),
    routes: rarely<unknown>(fc.constant([{ dst: "0.0.0.0/0", gw: "" }]), json),
    interfaces: rarely<unknown>(fc.constant([{ name: "eth0" }]), json),
    dns: rarely<unknown>(fc.constant({}), json),
  },
  { requiredKeys: [] },
);
const config = fc.record(
  {
    cniVersion: rarely(fc.constantFrom<unknown>(...cniVersions, ""), json),
    name: rarely<unknown>(fc.constant("net1"), json),
    type: rarely<unknown>(fc.constant("trivial"), json),
    prevResult: rarely<unknown>(result, json),
    runtimeConfig: rarely<unknown>(fc.constant({}), json),
    args: json,
    "cni.dev/valid-attachments": rarely<unknown>(fc.constant([]), json),
    __proto__: json,
  },
  { requiredKeys: [] },
);
const stdin = fc.oneof(
  { arbitrary: config.map((value) => JSON.stringify(value)), weight: 8 },
  { arbitrary: json.map((value) => JSON.stringify(value)), weight: 1 },
  { arbitrary: fc.string({ unit: "binary" }), weight: 1 },
);

it("10,000 random calls each end in success or in one JSON error object", async () => {
  const plugin = trivialPlugin({ add: ({ config }) => Promise.resolve(config.prevResult ?? oneAddress) });
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(environment, stdin, async (environment, stdin) => {
      const { exitCode, stdout } = await runVerb(plugin, { environment, stdin }, trivialHost);
      const parsed = (stdout === "" ? {} : JSON.parse(stdout)) as Record<string, unknown>;
      expect([0, 1]).toContain(exitCode);
      if (exitCode === 1) {
        expect(cniVersions).toContain(parsed["cniVersion"]);
        expect([1, 4, 6, 7, 8]).toContain(parsed["code"]);
        expect(parsed["msg"]).toBeTypeOf("string");
        expect(parsed["msg"]).not.toBe("");
      }
      const kind = `${environment.CNI_COMMAND ?? ""} ${exitCode}`;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
    }),
    { numRuns: 10_000 },
  );
  // Random input that never gets past the first check would prove nothing.
  for (const verb of ["ADD", "DEL", "CHECK", "GC", "STATUS"]) {
    expect(seen.get(`${verb} 0`), verb).toBeGreaterThan(5);
    expect(seen.get(`${verb} 1`), verb).toBeGreaterThan(5);
  }
});
