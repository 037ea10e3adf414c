import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import type { Engine, Step } from "#engine/engine.ts";

/** What netctl may ask of the embedded engine, which netd alone has open: one method, by its name. */
export type EngineCall =
  | { readonly op: "commit"; readonly steps: readonly Step[] }
  | { readonly op: "read"; readonly key: string }
  | { readonly op: "list"; readonly prefix: string }
  | { readonly op: "status" };

/** Carries one out. `found` of an outcome that was refused is a list of entries. Never throws. */
export async function serveEngineCall(stdin: string, open: () => Promise<Engine>): Promise<Outcome> {
  try {
    const answer = await carryOut(JSON.parse(stdin) as EngineCall, await open());
    return { exitCode: 0, stdout: JSON.stringify(answer ?? null), stderr: "" };
  } catch (error) {
    return fail(error);
  }
}

async function carryOut(call: EngineCall, engine: Engine): Promise<unknown> {
  switch (call.op) {
    case "commit": {
      const outcome = await engine.commit(call.steps);
      return outcome.committed
        ? { committed: true, revision: outcome.revision }
        : { ...outcome, found: [...outcome.found.values()] };
    }
    case "read":
      return await engine.read(call.key);
    case "list":
      return await engine.list(call.prefix);
    case "status":
      return await engine.status();
  }
  throw new CniError(ErrorCode.Internal, `Cannot serve a request of netctl: ${JSON.stringify(call)}`);
}
