import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import type { ResolverService } from "#dns-resolver/service.ts";

interface NamesRequest {
  readonly op?: unknown;
  readonly containerId?: unknown;
  readonly name?: unknown;
  readonly type?: unknown;
  readonly after?: unknown;
}

/**
 * Carries one out. `{"op": "sync"}` reads the registry again and says which
 * attachments can't be served, `list` says what is served, `query` what a container would
 * get, `log` what was asked. Never throws.
 */
export async function serveNamesRequest(stdin: string, resolver: ResolverService): Promise<Outcome> {
  try {
    const request = JSON.parse(stdin) as NamesRequest;
    const answer = await carryOut(request, resolver);
    return { exitCode: 0, stdout: JSON.stringify(answer), stderr: "" };
  } catch (error) {
    return fail(error);
  }
}

async function carryOut(request: NamesRequest, resolver: ResolverService): Promise<unknown> {
  switch (request.op) {
    case "sync":
      return await resolver.sync();
    case "list":
      return await resolver.report();
    case "query": {
      const { containerId, name, type } = request;
      if (typeof containerId !== "string" || typeof name !== "string" || typeof type !== "number") break;
      const report = await resolver.query(containerId, name, type);
      return { ...report, message: Buffer.from(report.message).toString("base64") };
    }
    case "log":
      return await resolver.log(typeof request.after === "number" ? request.after : 0);
  }
  throw new CniError(ErrorCode.Internal, `Cannot serve a request of netctl: ${JSON.stringify(request)}`);
}
