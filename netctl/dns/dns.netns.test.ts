import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "dns");
});
afterEach(() => lab.remove());

test("sandboxes find each other by name, and netctl says what each would find and why", async () => {
  await lab.ok("network", "create", "front", "--subnet", "10.1.0.0/24");
  await lab.ok("network", "create", "back", "--internal", "--subnet", "10.2.0.0/24");
  await lab.ok("sandbox", "create", "web", "--network", "front:alias=www");
  await lab.ok("sandbox", "create", "db", "--network", "back");
  await lab.ok("sandbox", "create", "app", "--network", "front", "--network", "back");
  expect(await lab.ok("sandbox", "exec", "web", "--", "getent", "hosts", "app")).toMatch(
    /^10\.1\.0\.3\s+app/,
  );
  expect(await lab.ok("sandbox", "exec", "app", "--", "cat", "/etc/resolv.conf")).toContain(
    "nameserver 127.0.0.11\n",
  );
  expect((await lab.netctl("sandbox", "exec", "db", "--", "getent", "hosts", "web")).exitCode).not.toBe(0);

  const query = async (...words: readonly string[]) => {
    const { stdout } = await lab.netctl("dns", "query", "--json", "--from", ...words);
    return JSON.parse(stdout) as { status: string; answers: { data: string }[]; source: object };
  };
  expect(await query("app", "db")).toMatchObject({
    status: "NOERROR",
    answers: [{ data: "10.2.0.2" }],
    source: { kind: "local", network: "back" },
  });
  expect(await query("web", "www.front")).toMatchObject({ answers: [{ data: "10.1.0.2" }] });
  expect(await query("web", "10.1.0.3")).toMatchObject({ answers: [{ data: "app.front" }] });
  expect(await query("db", "web")).toMatchObject({
    status: "NXDOMAIN",
    source: { kind: "internal" },
    hints: ["web is a name of web in network front, in which db is not"],
  });
  expect(await query("web", "web", "MX")).toMatchObject({ status: "NOERROR", answers: [] });
  expect(await lab.ok("dns", "query", "--from", "app", "db")).toMatch(
    /^NOERROR: from the names of network back\n/,
  );
  expect((await lab.netctl("dns", "query", "--from", "db", "10.1.0.3")).stdout).toBe(
    "NXDOMAIN, no such name: all its networks are internal, so nobody else is asked\n" +
      "10.1.0.3 is the address of app in network front, in which db is not\n",
  );
  const rows = (await lab.ok("dns", "ls")).split("\n");
  expect(rows.find((row) => row.startsWith("db "))).toMatch(
    /back +db \w{12} +10\.2\.0\.2 +nobody +listening/,
  );
  expect((await lab.netctl("dns", "query", "--from", "nobody", "db")).stderr).toBe(
    "netctl: no sandbox nobody, and no container with names whose id begins so\n",
  );
  expect((await lab.netctl("dns", "query", "--from", "ap", "db")).stderr).toBe(
    "netctl: no sandbox ap, and no container with names whose id begins so; did you mean app?\n",
  );

  await lab.ok("sandbox", "rm", "db");
  expect(await query("app", "db.back")).not.toMatchObject({ status: "NOERROR" });
  expect(await lab.ok("dns", "log")).toBe("");

  // Whoever looks at the log hears of every question from then on, also of those that are asked again and again.
  const isLogged = async () => {
    await lab.ok("sandbox", "exec", "web", "--", "dig", "+noedns", "@127.0.0.11", "app");
    await lab.ok("sandbox", "exec", "web", "--", "dig", "+noedns", "@127.0.0.11", "app");
    const lines = (await lab.ok("dns", "log")).split("\n");
    return lines.filter((line) => line.includes(" app")).length >= 2;
  };
  // It goes on for ten seconds.
  while (!(await isLogged()));

  const child = lab.start("dns", "log", "--follow");
  const followed = once(child.stdout, "data");
  const ended = once(child, "close");
  await followed;
  child.kill("SIGINT");
  expect((await ended)[0]).toBe(0);
});

test("the default network gives no names", async () => {
  await lab.ok("sandbox", "create", "a", "--network", "bridge");
  expect((await lab.netctl("dns", "ls")).stderr).toMatch(
    /^netctl: Cannot ask the resolver: no netd runs here/,
  );
});
