import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltService, buildService, NetdLab } from "#testing/netd-lab.ts";

type Line = Readonly<Record<string, unknown>>;

let service: BuiltService;
let lab: NetdLab;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(() => {
  lab = new NetdLab(service);
});
afterEach(() => lab.remove());

const traced = {
  TRACEPARENT: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  TRACESTATE: "vendor=1",
};
const traceFields = {
  trace_id: "0af7651916cd43dd8448eb211c80319c",
  span_id: "b7ad6b7169203331",
  trace_flags: "01",
  trace_state: "vendor=1",
};

function lines(): readonly Line[] {
  const text = readFileSync(lab.path("netd.log"), "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

const about = (containerId: string) => lines().filter((line) => line["containerId"] === containerId);

describe("the log", () => {
  it.each(["netd", "standalone"])(
    "has every line of a call with its attachment and its trace, by %s",
    async (by) => {
      if (by === "netd") await lab.startNetd();
      const netns = lab.namespace().path;
      const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0";
      const environment = { ...traced, CNI_ARGS: args };
      const added = await lab.call("ADD", { netns, environment });
      expect(added).toMatchObject({ exitCode: 0, by: [by] });
      const key = { network: "net1", containerId: "c1", ifName: "eth0" };
      const call = { ...key, ...traceFields, plugin: "bridge", verb: "ADD", name: "shop/cart-0" };
      expect(about("c1")).toEqual([
        expect.objectContaining({
          ...call,
          event: {
            type: "network",
            action: "connect",
            attributes: { addresses: "10.1.0.2/24", mac: expect.any(String) },
          },
        }),
        expect.objectContaining({ ...call, level: "info", msg: "ADD done", ms: expect.any(Number) }),
      ]);

      // A call that is part of no trace gets nothing of the one before.
      const failed = await lab.call("ADD", { netns, containerId: "c2" });
      expect(failed.exitCode).toBe(1);
      const [line, ...more] = about("c2");
      expect(more).toEqual([]);
      expect(line).toMatchObject({ level: "warn", msg: "ADD failed", code: 4, error: expect.any(String) });
      expect(Object.keys(line ?? {}).filter((field) => field.startsWith("trace"))).toEqual([]);

      expect((await lab.call("DEL", { netns })).exitCode).toBe(0);
      expect((await lab.call("DEL", { netns })).exitCode).toBe(0);
      const left = about("c1").filter(({ msg }) => msg === "network disconnect");
      expect(left).toHaveLength(1);
    },
  );

  it("of a netd that a call has started is not part of that call's trace", async () => {
    const environment = { ...traced, NETCTL_NETD: "" };
    const netns = lab.namespace().path;
    expect((await lab.call("ADD", { netns, environment })).exitCode).toBe(0);
    for (;;) {
      const start = lines().find(({ msg }) => msg === "netd start");
      if (start) {
        expect(start).not.toHaveProperty("trace_id");
        return;
      }
      await sleep(50);
    }
  });
});
