import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import { keyOf, recordedWork, requirePrevResult } from "#plugins/recorded-work.ts";
import { describeAttachment } from "./attachment.ts";
import { withBackend } from "./backend.ts";
import { parseFirewallConfig } from "./config.ts";
import { portToIsolate, setIsolated } from "./isolated-port.ts";
import { encodeMade, madeOf } from "./made.ts";
import { releaseAttachment } from "./release.ts";
import { addElements, addOwnRules, type Rules, removeRules } from "./rules.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = await withBackend(parseFirewallConfig(request.config), host);
  const prevResult = requirePrevResult(request, "firewall", "missing prevResult from earlier plugin");
  const key = keyOf(request);
  const attachment = describeAttachment({ config, key, prevResult });
  // An ADD that was killed, or a container that is started again without a DEL in between.
  if (host.journal.read(key, "firewall")) await releaseAttachment({ key, host });
  const port = attachment.ingressPolicy === "isolated" ? portToIsolate(prevResult, host) : undefined;
  const made = madeOf(attachment, port);
  const rules: Rules = { key, made, host };
  const intent = { plugin: "firewall", made: encodeMade(made), result: prevResult };
  await recordedWork(request, host, intent, async (undo) => {
    undo.push("rules", async () => {
      // Who leaves at the same time, or fails as this one, need not wait for it.
      host.journal.leave(key, "firewall");
      await removeRules(rules);
    });
    await addElements(rules);
    crashPoint("firewall-elements-added");
    await addOwnRules(rules);
    crashPoint("firewall-rules-added");
    if (port) {
      undo.push(`port ${JSON.stringify(port)}`, () => setIsolated(port, false, host));
      setIsolated(port, true, host);
      crashPoint("firewall-port-isolated");
    }
  });
  return prevResult;
}
