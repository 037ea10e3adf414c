import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { readLoopback, setLoopback } from "#kernel/loopback.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { addResolverRedirect } from "#nftables/resolver-redirect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { reportNames } from "#plugins/network-events.ts";
import { keyOf, recordedWork, requirePrevResult } from "#plugins/recorded-work.ts";
import { type Attachment, describeAttachment } from "./attachment.ts";
import { parseDnsConfig } from "./config.ts";
import { choosePort } from "./port.ts";
import { releaseAttachment, removeRedirect, sharing } from "./release.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseDnsConfig(request.config);
  const prevResult = requirePrevResult(request, "dns", "must be called as chained plugin");
  const key = keyOf(request);
  const attachment = describeAttachment({ config, key, request, prevResult });
  // An ADD that was killed, or a container that is started again without a DEL in between.
  if (host.journal.read(key, "dns")) await releaseAttachment(key, host, request.netns);
  const namespace = host.kernel.open(request.netns);
  try {
    const result = { ...prevResult, dns: attachment.dns };
    await attach(attachment, { request, namespace, host, result });
    reportNames("publish", key, attachment.entry.names, host);
    return result;
  } finally {
    namespace.close();
  }
}

interface Work {
  readonly request: AddRequest;
  readonly namespace: NetworkNamespace;
  readonly host: PluginHost;
  readonly result: CniResult;
}

async function attach({ key, entry }: Attachment, { request, namespace, host, result }: Work): Promise<void> {
  const others = sharing(key, request.netns, host);
  const port = choosePort(namespace, others);
  await recordedWork(request, host, { plugin: "dns", made: { port }, result }, async (undo) => {
    // The resolver is on it. It stays up, as every runtime has it.
    if (!readLoopback(namespace).link.up) setLoopback(namespace, true);
    undo.push("redirect to the resolver", () => removeRedirect(key, request.netns, host));
    addResolverRedirect(namespace.fd, port);
    crashPoint("redirect-added");
    undo.push("names", () => host.names.withdraw(key));
    await host.names.publish({ ...entry, port, createdAtMs: Date.now() });
    crashPoint("names-published");
  });
}
