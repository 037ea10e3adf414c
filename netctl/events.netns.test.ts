import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

interface EventView {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly time: number;
}

const trace = "0af7651916cd43dd8448eb211c80319c";

describe("netctl events and logs", () => {
  let suite: BuiltSuite;
  let lab: SuiteLab;
  beforeAll(async () => {
    suite = await buildSuite();
    lab = new SuiteLab(suite, "events");
    await lab.ok("network", "create", "web", "--subnet", "10.45.0.0/24", "--disable-dns");
    const environment = { TRACEPARENT: `00-${trace}-b7ad6b7169203331-01` };
    await lab.netctlWith(environment, "sandbox", "create", "alice", "--network", "web");
    await lab.ok("network", "create", "back", "--subnet", "10.46.0.0/24", "--disable-dns");
    await lab.ok("network", "connect", "back", "alice");
    await lab.netctl("sandbox", "create", "bob", "--network", "web:ip=10.45.0.2");
    await lab.ok("network", "disconnect", "back", "alice");
    await lab.ok("sandbox", "rm", "alice");
    await lab.ok("network", "rm", "back");
  });
  afterAll(() => {
    lab.remove();
    suite.remove();
  });

  const past = async (...words: readonly string[]) =>
    (await lab.ok("events", "--since", "1h", "--until", "0s", "--json", ...words))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as EventView);
  const words = (events: readonly EventView[]) =>
    events.map(({ Type, Action, Actor }) => `${Type} ${Action} ${Actor.Attributes["name"] ?? ""}`);

  it("say what has come and gone, in order, of networks and containers", async () => {
    expect(words(await past())).toEqual([
      "network create web",
      "network connect web",
      "container create alice",
      "network create back",
      "network connect back",
      "network disconnect back",
      "network disconnect web",
      "container destroy alice",
      "network destroy back",
    ]);
  });

  it("have Docker's fields, and the trace of the call", async () => {
    const [connect] = await past("--filter", "event=connect", "--filter", "network=web");
    const inspected = JSON.parse(await lab.ok("network", "inspect", "web")) as { readonly Id: string }[];
    expect(connect).toMatchObject({
      Type: "network",
      Actor: {
        ID: inspected[0]?.Id,
        Attributes: {
          name: "web",
          type: "bridge",
          containerName: "alice",
          interface: "eth0",
          addresses: "10.45.0.2/24",
          trace_id: trace,
        },
      },
      scope: "local",
    });
    const short = connect?.Actor.Attributes["container"]?.slice(0, 12) ?? "";
    expect(words(await past("--filter", `container=${short}`, "--filter", "type=network"))).toEqual([
      "network connect web",
      "network connect back",
      "network disconnect back",
      "network disconnect web",
    ]);
    const format = "{{.Action}} {{.Actor.Attributes.interface}}";
    const args = ["--since", "1h", "--until", "0s", "--filter", "container=alice", "--format", format];
    expect((await lab.ok("events", ...args)).split("\n").slice(0, 2)).toEqual(["connect eth0", "create "]);
  });

  it("come as they happen, until Ctrl-C", async () => {
    const child = lab.start(
      "events",
      "--filter",
      "type=network",
      "--filter",
      "type=container",
      "--since",
      "0s",
    );
    let shown = "";
    child.stdout.on("data", (chunk: Buffer) => (shown += chunk.toString()));
    const created = new Promise<void>((resolve) => {
      child.stdout.on("data", () => {
        if (shown.includes("network create") && shown.includes("name=live")) resolve();
      });
    });
    // The file has a line of each try, whenever the child begins to look.
    for (let seen = false; !seen; ) {
      await lab.ok("network", "create", "live", "--subnet", "10.47.0.0/24");
      await lab.ok("network", "rm", "live");
      seen = await Promise.race([
        created.then(() => true),
        new Promise<boolean>((r) => setTimeout(r, 500, false)),
      ]);
    }
    child.kill("SIGINT");
    expect((await once(child, "close"))[0]).toBe(0);
  });

  it("follow one container through, with what failed", async () => {
    const lines = (await lab.ok("logs", "bob")).trim().split("\n");
    expect(lines.join("\n")).toMatch(/warn +web\/bob\/eth0 {2}bridge ADD failed .*10\.45\.0\.2/);
    expect(lines.every((line) => line.includes("bob"))).toBe(true);
    const ofTrace = await lab.ok("logs", "--filter", `trace=${trace}`, "--filter", "plugin=bridge", "--json");
    expect(
      ofTrace
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as { msg: string }).msg),
    ).toEqual(["network connect", "ADD done"]);
    const last = await lab.ok("logs", "--filter", "level=warn", "--tail", "1");
    expect(last).toMatch(/^\S+ warn .*cannot create a sandbox/);
    expect(await lab.ok("logs", "nobody")).toBe("");
  });

  it("refuse what they can't know, by its name", async () => {
    for (const [args, message] of [
      [["events", "--filter", "typ=x"], "invalid filter 'typ'"],
      [["events", "--since", "soon"], "Cannot use --since soon"],
      [["events", "--since", "1m", "--until", "5m"], "it would end before it begins"],
      [["logs", "--filter", "level=loud"], "invalid filter 'level=loud'"],
      [["logs", "--tail", "x"], "Cannot use --tail x"],
    ] as const) {
      const { exitCode, stderr } = await lab.netctl(...args);
      expect(stderr).toContain(message);
      expect(exitCode).toBe(2);
    }
  });
});
