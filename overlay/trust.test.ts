import { expect, test } from "vitest";
import type { Entry } from "#engine/engine.ts";
import { listOf } from "./cluster-list.ts";
import { Keys } from "./keys.ts";
import { formatRecord } from "./record.ts";
import { ClusterView } from "./view.ts";

const keys = new Keys("default");
const uuid = "00000000-0000-4000-8000-000000000000";
const pools = [{ base: "10.128.0.0/9", size: 16, blockLength: 26 }];
const cluster = { v: 1, uuid, udpPort: 4789, vniMin: 4096, vniMax: 9999, pools };
const network = (state: string) => ({
  v: 1,
  name: "web",
  id: "0123456789ab",
  mode: "l3",
  vni: 5000,
  subnets: [{ cidr: "10.128.0.0/16", blockLength: 26 }],
  internal: false,
  names: "host",
  encrypted: false,
  state,
});
const entry = (key: string, record: object, revision: number): Entry => ({
  key,
  value: formatRecord(record),
  revision,
});
const own = entry(keys.cluster, cluster, 1);
const vni = entry(keys.vni(5000), { v: 1, network: "web", id: "0123456789ab" }, 2);
const web = (state: string) => entry(keys.network("web"), network(state), 3);

function viewOf(revision: number, ...entries: readonly Entry[]): ClusterView {
  const view = new ClusterView(keys);
  view.replace(listOf(keys, { revision, entries: [...entries] }));
  expect(view.problems).toEqual([]);
  return view;
}
const judged = (view: ClusterView, revision: number, ...entries: readonly Entry[]) =>
  view.judge(listOf(keys, { revision, entries: [...entries] }), uuid);

test("a network that was not being removed has not been removed when its entry goes", () => {
  const isGone = new Set([keys.network("web")]);
  expect(viewOf(9, own, vni, web("active")).judgeLoss(isGone)).toMatchObject({
    trusted: false,
    reason: 'network "web" is gone from the engine, and nobody has removed it',
    remedy: expect.stringContaining("netctl cluster adopt") as string,
  });
  expect(viewOf(9, own, vni, web("deleting")).judgeLoss(isGone)).toEqual({ trusted: true });
});

test("nor has one of which a list has what is removed before it", () => {
  const view = viewOf(9, own, vni, web("active"));
  expect(judged(view, 12, own, vni)).toMatchObject({ trusted: false });
  expect(judged(view, 12, own)).toEqual({ trusted: true });
});

test("a store that was restored is known by what is not as it was, however far it has come since", () => {
  const changed = entry(keys.pools, { v: 1, allocated: [] }, 8);
  const view = viewOf(9, own, changed);
  const before = entry(keys.pools, { v: 1, allocated: [] }, 5);
  expect(judged(view, 20, own, before)).toMatchObject({
    trusted: false,
    reason: expect.stringContaining("restored from an old copy") as string,
  });
  expect(judged(view, 20, own, entry(keys.pools, { v: 1, allocated: [] }, 15))).toEqual({ trusted: true });
  expect(judged(view, 20, own, changed)).toEqual({ trusted: true });
});
