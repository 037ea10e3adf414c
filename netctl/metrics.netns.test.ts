import { once } from "node:events";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

/** The samples in Prometheus' text format: name with labels, and value. */
const samplesOf = (text: string): ReadonlyMap<string, number> =>
  new Map(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))] as const;
      }),
  );

describe("netctl metrics", () => {
  let suite: BuiltSuite;
  let lab: SuiteLab;
  beforeAll(async () => {
    suite = await buildSuite();
    lab = new SuiteLab(suite, "metrics");
    await lab.ok("network", "create", "web", "--subnet", "10.44.0.0/29", "--disable-dns");
    await lab.ok(
      "sandbox",
      "create",
      "alice",
      "--network",
      "web",
      "-p",
      "8080:80",
      "-p",
      "9000-9002:9000-9002",
    );
    await lab.ok("sandbox", "create", "bob", "--network", "web");
  });
  afterAll(() => {
    lab.remove();
    suite.remove();
  });

  test("prints how full pools are, and what is attached and published", async () => {
    const samples = samplesOf(await lab.ok("metrics"));
    expect(Object.fromEntries(samples)).toMatchObject({
      netctl_networks: 1,
      'netctl_pool_addresses{network="web",subnet="10.44.0.0/29"}': 5,
      'netctl_pool_addresses_used{network="web",subnet="10.44.0.0/29"}': 2,
      'netctl_pool_addresses_leaked{network="web",subnet="10.44.0.0/29"}': 0,
      'netctl_attachments{network="web"}': 2,
      netctl_ports_published: 4,
      netctl_netd_up: 0,
    });
    expect(samples.get("netctl_conntrack_entries_limit")).toBeGreaterThan(0);
  });

  test("serves it to Prometheus on a unix socket", async () => {
    const socket = lab.path("metrics.sock");
    const child = lab.start("metrics", "--listen", `unix:${socket}`);
    try {
      await once(child.stdout, "data");
      const get = (path: string) =>
        new Promise<{ status: number | undefined; type: string | undefined; body: string }>(
          (resolve, reject) => {
            request({ socketPath: socket, path }, (response) => {
              let body = "";
              response.on("data", (piece: Buffer) => (body += piece.toString()));
              response.on("end", () =>
                resolve({ status: response.statusCode, type: response.headers["content-type"], body }),
              );
            })
              .on("error", reject)
              .end();
          },
        );
      const { status, type, body } = await get("/metrics");
      expect([status, type]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
      expect(samplesOf(body).get('netctl_attachments{network="web"}')).toBe(2);
      expect((await get("/")).status).toBe(404);
    } finally {
      child.kill("SIGTERM");
    }
    expect((await once(child, "close"))[0]).toBe(0);
  });
});
