import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type BuiltService, buildService, NetdLab } from "#testing/netd-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";

let service: BuiltService;
let lab: NetdLab;
let container: TestNamespace;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(() => {
  lab = new NetdLab(service);
  container = lab.namespace();
});
afterEach(async () => {
  await lab.remove();
});

const environment = { NETCTL_STANDALONE: "1" };
const errorOf = ({ stdout }: { readonly stdout: string }) =>
  JSON.parse(stdout) as { code: number; msg: string };

test.each(["SIGTERM", "SIGINT"] as const)("%s takes an ADD back, and says so", async (signal) => {
  const waiting = await lab.startWaiting({ netns: container.path, environment });
  expect(lab.remains()).toEqual(["c1:eth0:bridge"]);
  waiting.child.kill(signal);
  const ended = await waiting.ended;
  expect(ended).toMatchObject({ exitCode: 1, by: ["standalone"] });
  expect(errorOf(ended).code).toBe(11);
  await lab.file("gate/released-c1");
  expect(lab.remains()).toEqual([]);
  expect(lab.links(container)).toEqual(["lo"]);
});

test("stdin ends at 4 MiB, as with netd", async () => {
  const config = `{"name":"${"x".repeat(2 ** 22)}"}`;
  const ended = await lab.call("ADD", { netns: container.path, config, environment });
  expect(ended.exitCode).toBe(1);
  expect(errorOf(ended)).toMatchObject({
    code: 6,
    msg: "Cannot read the network configuration: stdin is longer than 4 MiB",
  });
});

test("a configuration that comes slowly through a pipe that does not block is read to its end", async () => {
  const script = `node -e '
    const { spawn } = require("child_process");
    const child = spawn(process.argv[1], { stdio: ["overlapped", "inherit", "inherit"] });
    let text = ""; process.stdin.on("data", (d) => text += d);
    process.stdin.on("end", async () => {
      for (const c of text.match(/.{1,40}/gs)) { child.stdin.write(c); await new Promise((r) => setTimeout(r, 10)); }
      child.stdin.end();
    });
    child.on("exit", (code) => process.exit(code));
  ' "$0"`;
  const through = ["sh", "-c", script];
  const added = await lab.call("ADD", { netns: container.path, environment, through });
  expect(added).toMatchObject({ exitCode: 0, by: ["standalone"] });
  expect(lab.links(container)).toContain("eth0");
});

test("the program of one plugin knows which others hand out no addresses", async () => {
  const config = JSON.stringify(lab.config({ ipam: { type: "firewall" } }));
  const ended = await lab.call("ADD", { netns: container.path, config, environment });
  expect(ended).toMatchObject({ exitCode: 1, by: ["standalone"] });
  expect(errorOf(ended)).toMatchObject({
    code: 7,
    msg: 'Cannot use plugin "firewall" as "ipam.type": it makes interfaces, and hands out no addresses',
  });
  expect(lab.remains()).toEqual([]);
});
