import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { newestVersion } from "#cni/version.ts";
import { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import { describeAttachment } from "./attachment.ts";
import { parseFirewallConfig } from "./config.ts";
import { portToIsolate, setIsolated } from "./isolated-port.ts";
import { encodeMade, madeOf } from "./made.ts";
import { releaseAttachment } from "./release.ts";
import { addElements, addOwnRules, type Rules, removeRules } from "./rules.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseFirewallConfig(request.config);
  const { prevResult, json } = request.config;
  if (!prevResult) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "missing prevResult from earlier plugin", {
      details: "firewall is a chained plugin: it needs the result of those before it in the list",
    });
  }
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const attachment = describeAttachment({ config, key, prevResult });
  const { environment } = request;
  // An ADD that was killed, or a container that is started again without a DEL in between.
  if (host.journal.read(key, "firewall")) await releaseAttachment({ key, environment, host });
  const port = attachment.ingressPolicy === "isolated" ? portToIsolate(prevResult, host) : undefined;
  const made = madeOf(attachment, port);
  const rules: Rules = { key, made, environment, host };
  const { prevResult: _, ...recorded } = json;
  await Undo.run(async (undo) => {
    const entry = await host.journal.begin({
      key,
      plugin: "firewall",
      netns: request.netns,
      config: recorded,
      args: request.args,
      made: encodeMade(made),
    });
    undo.push("journal record", (failures) => {
      // What could not be taken back is for the next DEL or GC, which needs the record.
      if (failures.length === 0) entry.remove();
    });
    request.signal.throwIfAborted();
    undo.push("rules", () => removeRules(rules));
    await addElements(rules);
    crashPoint("firewall-elements-added");
    await addOwnRules(rules);
    crashPoint("firewall-rules-added");
    if (port) {
      undo.push(`port ${JSON.stringify(port)}`, () => setIsolated(port, false, host));
      setIsolated(port, true, host);
      crashPoint("firewall-port-isolated");
    }
    entry.complete(encodeResult(prevResult, newestVersion));
  });
  return prevResult;
}
