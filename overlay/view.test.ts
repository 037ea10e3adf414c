import { expect, test } from "vitest";
import type { Entry } from "#engine/engine.ts";
import { parseIp } from "#net/ip.ts";
import { listOf as takeList } from "./cluster-list.ts";
import { Keys } from "./keys.ts";
import { formatRecord } from "./record.ts";
import { ClusterView } from "./view.ts";

const keys = new Keys("default");
const uuid = "11111111-2222-3333-4444-555555555555";

const cluster: Entry = {
  key: keys.cluster,
  value: formatRecord({ v: 1, uuid, udpPort: 4789, vniMin: 100, vniMax: 5000, pools: [] }),
  revision: 1,
};
const host = (id: string, index: number): Entry => ({
  key: keys.host(id),
  value: formatRecord({
    v: 1,
    id,
    name: id,
    underlay: { v4: parseIp(`203.0.113.${index + 1}`) },
    mtu: 1500,
    state: "active",
  }),
  revision: 2,
});
const hosts = ["a", "b", "c", "d", "e"].map(host);
const left = (id: string): Entry => ({
  key: keys.left(id),
  value: formatRecord({ v: 1, atMs: 0 }),
  revision: 9,
});

const listOf = (revision: number, entries: readonly Entry[]) => takeList(keys, { revision, entries });

function viewOfFive(): ClusterView {
  const view = new ClusterView(keys);
  view.replace(listOf(5, [cluster, ...hosts]));
  expect([...view.hosts.keys()]).toHaveLength(5);
  return view;
}

test("an engine in which most hosts are missing is not believed, whoever they are", () => {
  const view = viewOfFive();
  expect(view.judge(listOf(9, [cluster, ...hosts.slice(0, 2)]), uuid)).toMatchObject({
    trusted: false,
    reason: "only 2 of 5 hosts are left in the engine",
  });
  expect(view.judgeLoss(new Set(["c", "d", "e"].map((id) => keys.host(id))))).toMatchObject({
    trusted: false,
  });
});

test("hosts that an operator has removed are not missed, in a list and one after the other", () => {
  const removed = ["c", "d", "e"];
  const list = listOf(9, [cluster, ...hosts.slice(0, 2), ...removed.map(left)]);
  expect(viewOfFive().judge(list, uuid)).toEqual({ trusted: true });
  const view = viewOfFive();
  view.apply({ revision: 9, changes: removed.map((id) => ({ kind: "put", entry: left(id) })) });
  const gone = new Set(removed.map((id) => keys.host(id)));
  expect(view.judgeLoss(gone)).toEqual({ trusted: true });
  // The rest is judged as before.
  expect(view.judgeLoss(new Set([...gone, keys.cluster]))).toMatchObject({ trusted: false });
  expect(viewOfFive().judge(listOf(9, [cluster, ...removed.map(left)]), uuid)).toMatchObject({
    trusted: false,
    reason: "only 0 of 2 hosts are left in the engine",
  });
});
