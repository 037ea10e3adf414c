import { statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "apply");
});
afterEach(() => lab.remove());

const example = join(import.meta.dirname, "../examples/four-tiers.compose.yaml");
const names = async (...words: readonly string[]) =>
  (await lab.ok(...words)).split("\n").filter(Boolean).sort();
const namespace = (sandbox: string) => lab.namespace(lab.path("run/netns", sandbox));

interface Inspected {
  readonly networks: readonly {
    readonly name: string;
    readonly attachments: readonly {
      readonly sandbox: string | null;
      readonly addresses: readonly string[];
    }[];
  }[];
}
/** Every address of every sandbox, and the network that it is in. */
async function addresses() {
  const { networks } = JSON.parse(await lab.ok("inspect", "--json")) as Inspected;
  return networks.flatMap(({ name, attachments }) =>
    attachments.flatMap(({ sandbox, addresses }) =>
      addresses
        .filter((text) => text.includes("."))
        .map((text) => ({ network: name, sandbox: sandbox ?? "", address: text.replace(/\/.*/, "") })),
    ),
  );
}

it("brings the four tiers up with exactly their reachability, and names in each network alone", async () => {
  const applied = await lab.ok("apply", "-f", example);
  expect(applied.split("\n")).toContain("created network shop_database");
  const sandboxes = [
    "shop-api-1",
    "shop-db-1",
    "shop-grafana-1",
    "shop-prometheus-1",
    "shop-proxy-1",
    "shop-web-1",
    "shop-web-2",
  ];
  expect(await names("sandbox", "ls", "-q")).toEqual(sandboxes);
  const all = await addresses();
  const networksOf = (name: string) =>
    all.filter(({ sandbox }) => sandbox === name).map(({ network }) => network);
  const seen = await Promise.all(
    sandboxes.map(async (from) => {
      const pings = all
        .filter(({ sandbox }) => sandbox !== from)
        .map(({ address, network, sandbox }) => {
          const seconds = networksOf(from).includes(network) ? 20 : 2;
          return `{ if ping -c1 -W${seconds} ${address} >/dev/null 2>&1; then echo "${from} ${sandbox} ${network}"; fi; } &`;
        });
      return (await namespace(from).runAsync(`${pings.join("\n")}\nwait`)).split("\n").filter(Boolean);
    }),
  );
  const expected = sandboxes.flatMap((from) =>
    all
      .filter(({ sandbox, network }) => sandbox !== from && networksOf(from).includes(network))
      .map(({ sandbox, network }) => `${from} ${sandbox} ${network}`),
  );
  expect(expected.length).toBeGreaterThan(10);
  expect(seen.flat().sort()).toEqual(expected.sort());

  const query = async (from: string, name: string) =>
    (await lab.netctl("dns", "query", "--from", from, name)).exitCode === 0;
  expect(await query("shop-proxy-1", "site")).toBe(true);
  expect(await query("shop-api-1", "postgres")).toBe(true);
  expect(await query("shop-proxy-1", "postgres")).toBe(false);

  // The database has no way out; the others have theirs by the network that they are told.
  expect(namespace("shop-db-1").run("ip route show default")).toBe("");
  expect(namespace("shop-web-1").run("ip route show default")).toContain("via 10.90.1.1 ");
  expect(await lab.ok("sandbox", "exec", "shop-db-1", "--", "hostname")).toBe("postgres-1\n");
  expect(
    await lab.ok("sandbox", "exec", "shop-db-1", "--", "cat", "/proc/sys/net/ipv4/tcp_keepalive_time"),
  ).toBe("60\n");
  expect(await lab.ok("port", "shop-proxy-1")).toContain("80/tcp -> 0.0.0.0:8080\n");

  expect(await lab.ok("apply", "-f", example)).toBe("project shop: nothing to do\n");
  await lab.ok("down", "-f", example);
  expect(await names("sandbox", "ls", "-q")).toEqual([]);
  expect(await names("network", "ls", "--format", "{{.Name}}", "--filter", "type=custom")).toEqual([]);
});

it("touches only what differs, says before what it would do, and leaves alone what is not its own", async () => {
  const file = lab.path("compose.yaml");
  const write = (text: string) =>
    writeFile(file, `name: p\nnetworks: {n: {external: true, name: shared}, own: {}}\nservices:\n${text}`);
  await lab.ok("network", "create", "shared", "--subnet", "10.7.0.0/24", "--disable-dns");
  await write("  a: {networks: [n]}\n  b: {networks: {n: {ipv4_address: '${IP:-10.7.0.2}'}}}");
  const dry = await lab.ok("apply", "-f", file, "--dry-run");
  expect(dry).toBe("would create network p_own\nwould create sandbox p-b-1\nwould create sandbox p-a-1\n");
  expect(await names("sandbox", "ls", "-q")).toEqual([]);
  await lab.ok("apply", "-f", file);
  const { ino } = statSync(lab.path("run/netns/p-a-1"));

  await write("  a: {networks: [n], links: [c]}\n  c: {networks: [own], image: x, environment: [A=b]}");
  const second = await lab.netctl("apply", "-f", file);
  expect(second.stdout).toBe("created sandbox p-c-1\n");
  expect(second.stderr).toBe(
    "netctl: warning: services.a.links is not supported, and passed over\nnetctl: warning: the file does not name p-b-1 of project p; --prune removes them\n",
  );
  const pruned = JSON.parse(await lab.ok("apply", "-f", file, "--prune", "--json")) as object;
  expect(pruned).toEqual({
    schema: "netctl.apply/1",
    project: "p",
    dryRun: false,
    actions: [{ action: "remove", kind: "sandbox", name: "p-b-1", reason: "the file does not name it" }],
  });
  // The one that is as it was was not made anew.
  expect(statSync(lab.path("run/netns/p-a-1")).ino).toBe(ino);

  await write("  a: {networks: [n], hostname: -bad-}");
  expect(await lab.netctl("apply", "-f", file)).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("Cannot use --hostname -bad-") as string,
  });
  await lab.ok("down", "-p", "p");
  expect(await names("network", "ls", "--format", "{{.Name}}", "--filter", "type=custom")).toEqual([
    "shared",
  ]);
  expect((await lab.netctl("apply", "-f", lab.path("none.yaml"))).exitCode).toBe(1);
});
