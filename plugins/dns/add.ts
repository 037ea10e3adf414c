import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { newestVersion } from "#cni/version.ts";
import { readLoopback, setLoopback } from "#kernel/loopback.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { addResolverRedirect } from "#nftables/resolver-redirect.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Attachment, describeAttachment } from "./attachment.ts";
import { parseDnsConfig } from "./config.ts";
import { choosePort } from "./port.ts";
import { releaseAttachment, removeRedirect, sharing } from "./release.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseDnsConfig(request.config);
  const { prevResult } = request.config;
  if (!prevResult) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "must be called as chained plugin", {
      details: "dns needs a prevResult, from the plugins before it in the list",
    });
  }
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const attachment = describeAttachment({ config, key, request, prevResult });
  // An ADD that was killed, or a container that is started again without a DEL in between.
  if (host.journal.read(key, "dns")) await releaseAttachment(key, host, request.netns);
  const namespace = host.kernel.open(request.netns);
  try {
    const result = { ...prevResult, dns: attachment.dns };
    await attach(attachment, { request, namespace, host, result });
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
  const { prevResult: _, ...json } = request.config.json;
  const others = sharing(key, request.netns, host);
  const port = choosePort(namespace, others);
  await Undo.run(async (undo) => {
    const record = await host.journal.begin({
      key,
      plugin: "dns",
      netns: request.netns,
      config: json,
      args: request.args,
      made: { port },
    });
    undo.push("journal record", (failures) => {
      // What could not be taken back is for the next DEL or GC, which needs the record.
      if (failures.length === 0) record.remove();
    });
    request.signal.throwIfAborted();
    // The resolver is on it. It stays up, as every runtime has it.
    if (!readLoopback(namespace).link.up) setLoopback(namespace, true);
    undo.push("redirect to the resolver", () => removeRedirect(key, request.netns, host));
    addResolverRedirect(namespace.fd, port);
    crashPoint("redirect-added");
    undo.push("names", () => host.names.withdraw(key));
    await host.names.publish({ ...entry, port, createdAtMs: Date.now() });
    crashPoint("names-published");
    record.complete(encodeResult(result, newestVersion));
  });
}
