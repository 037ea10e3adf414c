import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { int, mac } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";
import type { LinkSettings } from "#kernel/link-settings.ts";
import type { SysctlSetting } from "#kernel/sysctl.ts";

const schema = goObject({
  /** Of the interface; undefined where nothing of it was changed. */
  ifindex: v.exactOptional(int()),
  link: goObject({
    mac: v.exactOptional(mac),
    mtu: v.exactOptional(int()),
    promiscuous: v.exactOptional(v.boolean()),
    allMulticast: v.exactOptional(v.boolean()),
    txQueueLength: v.exactOptional(int()),
  }),
  sysctls: v.record(v.string(), v.string()),
});

/**
 * What the journal keeps of an attachment: how everything was before it was changed. Written before it is, so some of it
 * may still be so.
 */
export interface Made {
  readonly ifindex?: number;
  readonly link: LinkSettings;
  readonly sysctls: readonly SysctlSetting[];
}

export function encodeMade({ ifindex, link, sysctls }: Made): JsonObject {
  const known = Object.entries(link).filter(([, value]) => value !== undefined);
  return {
    ...(ifindex === undefined ? {} : { ifindex }),
    link: Object.fromEntries(known),
    sysctls: Object.fromEntries(sysctls.map(({ key, value }) => [key, String(value)])),
  };
}

/** What a record says was there; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const { success, output } = v.safeParse(schema, record.made);
  if (!success) return undefined;
  const sysctls = Object.entries(output.sysctls).map(([key, value]) => ({ key, value }));
  return { ...output, sysctls };
}

/**
 * What was there before two changes, one after the other: of what both have changed, what the first found. Where the
 * interface has been replaced in between, what was its own is nobody's any more.
 */
export function mergeMade(first: Made, second: Made, ifName: string): Made {
  const isReplaced =
    first.ifindex !== undefined && second.ifindex !== undefined && first.ifindex !== second.ifindex;
  const kept = isReplaced
    ? first.sysctls.filter(({ key }) => !key.split("/").includes(ifName))
    : first.sysctls;
  const keys = new Set(kept.map(({ key }) => key));
  const ifindex = second.ifindex ?? first.ifindex;
  return {
    ...(ifindex === undefined ? {} : { ifindex }),
    link: isReplaced ? second.link : { ...second.link, ...first.link },
    sysctls: [...kept, ...second.sysctls.filter(({ key }) => !keys.has(key))],
  };
}
