import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltService, buildService, NetdLab } from "#testing/netd-lab.ts";

const run = promisify(execFile);
let service: BuiltService;
let lab: NetdLab;

beforeAll(async () => {
  service = await buildService();
  lab = new NetdLab(service);
});
afterAll(async () => {
  await lab.remove();
  service.remove();
});

/** As `netctl metrics` prints it in the lab's host. */
async function metrics(): Promise<string> {
  const netctl = join(service.bin, "netctl");
  const { stdout } = await run("nsenter", [`--net=${lab.host.path}`, netctl, "metrics"], {
    env: lab.environment,
  });
  return stdout;
}

const valueOf = (text: string, sample: string) =>
  Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${sample} `))
      ?.slice(sample.length + 1),
  );

test("netd counts verbs with their time and outcome, and what it put back", async () => {
  await lab.startNetd();
  const container = lab.namespace();
  const config = lab.config({ isGateway: true, ipMasq: true });
  expect((await lab.call("ADD", { netns: container.path, config })).exitCode).toBe(0);
  expect((await lab.call("ADD", { netns: "/nonexistent", config })).exitCode).toBe(1);
  lab.host.run("nft flush ruleset");
  await lab.logged("somebody has taken rules away");
  expect((await lab.call("DEL", { netns: container.path, config })).exitCode).toBe(0);

  const text = await metrics();
  const counted = (verb: string, outcome: string) =>
    valueOf(text, `netctl_verb_duration_seconds_count{plugin="bridge",verb="${verb}",outcome="${outcome}"}`);
  expect([counted("ADD", "ok"), counted("ADD", "failed"), counted("DEL", "ok")]).toEqual([1, 1, 1]);
  expect(
    valueOf(text, 'netctl_verb_duration_seconds_sum{plugin="bridge",verb="ADD",outcome="ok"}'),
  ).toBeGreaterThan(0);
  expect(valueOf(text, "netctl_reconcile_repairs_total")).toBe(1);
  expect(valueOf(text, 'netctl_reconcile_repaired_total{what="elements"}')).toBeGreaterThan(0);
  expect(valueOf(text, "netctl_verbs_running")).toBe(0);
  expect(valueOf(text, "netctl_netd_up")).toBe(1);
  expect(valueOf(text, "netctl_dns_containers")).toBe(0);
  expect(valueOf(text, "process_resident_memory_bytes")).toBeGreaterThan(1e6);
  // One text of two sources: no name stands in it twice.
  const helps = text.match(/^# HELP \S+/gm) ?? [];
  expect(new Set(helps).size).toBe(helps.length);
});
