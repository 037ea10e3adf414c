import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniInterface, CniResult } from "#cni/result.ts";
import { createIfb } from "#kernel/ifb.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import {
  isShapingQdisc,
  readArrivingQdisc,
  readRootQdisc,
  redirectArriving,
  removeRedirection,
  removeShape,
  shapeLeaving,
} from "#kernel/shaping.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { IfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { keyOf, recordedWork, requirePrevResult } from "#plugins/recorded-work.ts";
import { type Attachment, describeAttachment, filterCount } from "./attachment.ts";
import { type BandwidthConfig, parseBandwidthConfig } from "./config.ts";
import { encodeMade, type Made } from "./made.ts";
import { ifbNames } from "./names.ts";
import { findPlace } from "./place.ts";
import { releaseAttachment, removeMade } from "./release.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseBandwidthConfig(request.config);
  const prevResult = requirePrevResult(request, "bandwidth", "must be called as chained plugin");
  const key = keyOf(request);
  // An ADD that was killed, or is repeated, perhaps with other rates.
  if (host.journal.read(key, "bandwidth")) await releaseAttachment(key, host, request.netns);
  if (!config.ingress && !config.egress) return prevResult;
  using container = host.kernel.open(request.netns);
  const ifb = await attach(config, { request, container, prevResult, host });
  return ifb ? { ...prevResult, interfaces: [...prevResult.interfaces, ifb] } : prevResult;
}

interface Work {
  readonly request: AddRequest;
  readonly container: NetworkNamespace;
  readonly prevResult: CniResult;
  readonly host: PluginHost;
}

async function attach(
  config: BandwidthConfig,
  { request, container, prevResult, host }: Work,
): Promise<CniInterface | undefined> {
  const { place, namespace, device } = findPlace(host.kernel, container, request.ifName);
  const attachment = describeAttachment({ config, key: keyOf(request), place, device });
  refuseForeignQdisc(namespace, attachment);
  const made = planMade(namespace, attachment);
  const intent = { plugin: "bandwidth", made: encodeMade(made), result: prevResult };
  return await recordedWork(request, host, intent, (undo) => {
    undo.push("shaping", () => removeMade(namespace, made));
    const ifb = shape(namespace, attachment, made);
    return ifb && resultInterface(ifb, place === "container" ? request.netns.path : undefined);
  });
}

/**
 * The interface's own queueing is replaced; somebody else's, made by hand, is not.
 * @throws {CniError} 4
 */
function refuseForeignQdisc(namespace: NetworkNamespace, { device, leaving }: Attachment): void {
  const root = leaving && readRootQdisc(namespace, device.ifindex);
  if (!root || isShapingQdisc(root)) return;
  throw new CniError(
    ErrorCode.InvalidEnvironment,
    `Cannot shape what leaves through ${JSON.stringify(device.name)}: it has a ${root.kind} qdisc ${(root.handle >>> 16).toString(16)}: that is not of this plugin`,
  );
}

/** Names are decided before anything is made, so that the record has them. */
function planMade(namespace: NetworkNamespace, attachment: Attachment): Made {
  const { place, device, leaving, arriving } = attachment;
  return {
    place,
    device: device.name,
    ifindex: device.ifindex,
    leaving: leaving !== undefined,
    ...(arriving
      ? {
          arriving: {
            ifb: freeIfbName(namespace, attachment),
            ownsQdisc: readArrivingQdisc(namespace, device.ifindex) === undefined,
            filters: filterCount(attachment),
          },
        }
      : {}),
  };
}

function freeIfbName(namespace: NetworkNamespace, { key }: Attachment): IfName {
  const [first, second] = ifbNames(key);
  return readLink(namespace, first) ? second : first;
}

/** @returns the link through which what arrives is led */
function shape(namespace: NetworkNamespace, attachment: Attachment, made: Made): Link | undefined {
  const { device, leaving, arriving } = attachment;
  const { ifindex } = device;
  if (leaving) {
    // Of an ADD whose record is lost.
    removeShape(namespace, ifindex);
    shapeLeaving(namespace, ifindex, leaving.shape, leaving.selection);
    crashPoint("leaving-shaped");
  }
  if (!arriving || !made.arriving) return undefined;
  const { ifb: name, ownsQdisc, filters } = made.arriving;
  const ifb = createIfb(namespace, { name, mtu: device.mtu });
  crashPoint("ifb-made");
  if (!ownsQdisc) removeRedirection(namespace, ifindex, { withQdisc: false, count: filters });
  shapeLeaving(namespace, ifb.ifindex, arriving.shape, { ...arriving.selection, subnets: [] });
  redirectArriving(namespace, ifindex, { to: ifb.ifindex, selection: arriving.selection, ownsQdisc });
  crashPoint("arriving-shaped");
  return ifb;
}

function resultInterface({ name, mac, mtu }: Link, sandbox: string | undefined): CniInterface {
  return { name, ...(mac === undefined ? {} : { mac }), mtu, ...(sandbox === undefined ? {} : { sandbox }) };
}
