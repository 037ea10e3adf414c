import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { type Browser, launch, type Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import type { StateAnswer } from "./ui/answers.ts";

const chromium = "/usr/bin/chromium";
const hasChromium = existsSync(chromium);
/** In the names of tests that a machine without it skips. */
const lacking = hasChromium ? "" : " [this machine lacks chromium]";
/** Where to put pictures of the page, for docs/; nowhere as a rule. */
const pictures = process.env["NETCTL_PICTURES"];

/** The page is asked for over a unix socket, as its host has a loopback of its own. */
describe("netctl ui", () => {
  let suite: BuiltSuite;
  let lab: SuiteLab;
  let child: ChildProcess;
  let socket: string;
  let token: string;
  beforeAll(async () => {
    suite = await buildSuite();
    lab = new SuiteLab(suite, "ui");
    lab.host.run(
      "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; ip addr add 203.0.113.1/24 dev up0; ip route add default via 203.0.113.2",
    );
    await lab.ok("network", "create", "frontend");
    await lab.ok("network", "create", "db", "--internal");
    await lab.ok("sandbox", "create", "web", "--network", "frontend", "-p", "8080:80");
    await lab.ok("sandbox", "create", "api", "--network", "frontend", "--network", "db");
    await lab.ok("sandbox", "create", "postgres", "--network", "db", "--network-alias", "database");
    socket = lab.path("ui.sock");
    child = lab.start("ui", "--listen", `unix:${socket}`);
    const [line] = (await once(child.stdout ?? child, "data")) as [Buffer];
    token = /#(\w+)/.exec(line.toString())?.[1] ?? "";
  });
  afterAll(() => {
    child?.kill("SIGTERM");
    lab.remove();
    suite.remove();
  });

  const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
    new Promise<{ status: number; body: string; headers: NodeJS.Dict<string | string[]> }>(
      (resolve, reject) => {
        request({ socketPath: socket, path, headers, method }, (response) => {
          let body = "";
          response.on("data", (piece: Buffer) => (body += piece.toString()));
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body, headers: response.headers }),
          );
        })
          .on("error", reject)
          .end();
      },
    );
  const withToken = () => ({ authorization: `Bearer ${token}` });

  test("tells whoever has the token what is so, and nobody else", async () => {
    expect(token).toMatch(/^[0-9a-f]{32}$/);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    const { status, body } = await get("/api/state", withToken());
    expect(status).toBe(200);
    const state = JSON.parse(body) as StateAnswer;
    expect(state.topology.namespaces.map(({ name }) => name)).toEqual(["host", "api", "postgres", "web"]);
    expect(state.networks).toMatchObject([
      { name: "db", attachments: 2 },
      { name: "frontend", attachments: 2 },
    ]);
    for (const headers of [
      {},
      { authorization: "Bearer " },
      { authorization: `Bearer ${"0".repeat(32)}` },
      { authorization: token },
    ])
      expect((await get("/api/state", headers)).status).toBe(401);
  });

  test("shows names and the doctor's findings", async () => {
    const names = JSON.parse((await get("/api/names", withToken())).body) as {
      report: { containers: unknown[] };
    };
    expect(names.report.containers).toHaveLength(3);
    const { findings } = JSON.parse((await get("/api/findings", withToken())).body) as {
      findings: unknown[];
    };
    expect(Array.isArray(findings)).toBe(true);
  });

  test("the page asks for nothing from elsewhere, and may not", async () => {
    const page = await get("/");
    expect(page.headers["content-security-policy"]).toContain("default-src 'none'");
    for (const path of ["/", "/app.js", "/app.css"])
      expect((await get(path)).body).not.toMatch(/(?:src|href)="(?:https?:)?\/\/|@import|url\(/);
  });

  test("has no request that changes anything", async () => {
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"])
      expect((await get("/api/state", withToken(), method)).status).toBe(405);
    expect((await get("/api/none", withToken())).status).toBe(404);
  });

  test("ends with a signal, and takes its socket away", async () => {
    const other = lab.path("other.sock");
    const second = lab.start("ui", "--listen", `unix:${other}`);
    await once(second.stdout, "data");
    second.kill("SIGINT");
    const [code] = (await once(second, "close")) as [number];
    expect(code).toBe(0);
    expect(existsSync(other)).toBe(false);
  });

  test("says what is in the way of listening", async () => {
    const { exitCode, stderr } = await lab.netctl("ui", "--listen", `unix:${socket}`);
    expect(stderr).toContain(`Cannot listen on unix:${socket}: `);
    expect(exitCode).toBe(1);
  });

  // One page for all, one view after the other.
  describe.skipIf(!hasChromium)(`in a browser${lacking}`, { shuffle: false }, () => {
    let browser: Browser;
    let server: ChildProcess;
    let page: Page;
    let address: string;
    beforeAll(async () => {
      // On the loopback of the lab's host, where the browser is as well.
      server = lab.start("ui", "--listen", "127.0.0.1:0");
      const [line] = (await once(server.stdout ?? server, "data")) as [Buffer];
      address = line.toString().trim();
      const starter = lab.path("chromium");
      writeFileSync(starter, `#!/bin/sh\nexec nsenter --net=${lab.host.path} ${chromium} "$@"\n`, {
        mode: 0o755,
      });
      browser = await launch({
        executablePath: starter,
        args: ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"],
        pipe: true,
      });
      page = await browser.newPage();
      await page.setViewport({ width: 1400, height: 860 });
      await page.goto(address);
    });
    afterAll(async () => {
      await browser?.close();
      server?.kill("SIGTERM");
    });

    const picture = async (name: string) => {
      if (pictures === undefined) return;
      mkdirSync(pictures, { recursive: true });
      await page.screenshot({ path: `${pictures}/${name}.png` });
    };
    const open = async (view: string) => {
      await page.locator(`::-p-xpath(//nav/button[text()='${view}'])`).click();
    };
    const waitForText = (text: string, within = page) =>
      within.waitForSelector(`::-p-text(${text})`, { timeout: 120_000 });

    test("draws the map, and tells more of what is clicked", async () => {
      await page.waitForSelector('[data-box="postgres"]', { timeout: 120_000 });
      expect(
        await page.$$eval("[data-box]", (all) =>
          all.map((each) => each.getAttribute("data-box") ?? "").sort((a, b) => (a < b ? -1 : 1)),
        ),
      ).toEqual(["api", "db", "frontend", "postgres", "up0", "up1", "web"]);
      expect(await page.evaluate("location.href")).not.toContain("#");
      await page.locator('[data-box="web"]').click();
      await waitForText("Published ports");
      await waitForText("0.0.0.0:8080->80/tcp");
      await picture("ui-map");
    });

    test("marks what is broken, within a few looks", async () => {
      lab.namespace(lab.path("run/netns/postgres")).run("ip link set eth0 down");
      await page.waitForSelector('[data-box="postgres"].warned', { timeout: 120_000 });
      await picture("ui-broken");
      lab.namespace(lab.path("run/netns/postgres")).run("ip link set eth0 up");
    });

    test.each([
      ["Traffic", "postgres"],
      ["Networks", "frontend"],
      ["Ports", "0.0.0.0:8080->80/tcp"],
      ["Names", "database"],
      ["Findings", "What helps"],
    ])("shows %s", async (view, text) => {
      await open(view);
      await waitForText(text);
      await picture(`ui-${view.toLowerCase()}`);
    });

    test("says that the address lacks its token", async () => {
      const context = await browser.createBrowserContext();
      const stranger = await context.newPage();
      await stranger.goto(address.replace(/#.*/, ""));
      await waitForText("the address lacks its token", stranger);
      await context.close();
    });
  });
});
