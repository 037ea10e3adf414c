import { EngineError } from "#engine/error.ts";
import { StatusError } from "./api.ts";
import { group } from "./objects.ts";

/** What the server has said, and what an operator does about it. */
export function wordsOf(error: unknown): string {
  if (!(error instanceof StatusError)) return error instanceof Error ? error.message : String(error);
  const { code, message } = error;
  const remedy = remedyOf(error);
  // A path that nobody serves is answered in no words of the API's.
  const words = code === 404 && !error.isNotFound ? `it does not serve entries of ${group}` : message;
  return remedy === undefined ? words : `${words}; ${remedy}`;
}

function remedyOf(error: StatusError): string | undefined {
  if (error.code === 401) return "give this host another token of the service account netctl";
  if (error.code === 403 || error.isNotFound) return "apply deploy/kubernetes/rbac.yaml";
  if (error.code === 404) return "apply deploy/kubernetes/crd.yaml";
  return undefined;
}

/** @param action such as "read from" */
export function toEngineError(action: string, error: unknown): EngineError {
  const message = `Cannot ${action} the API server: ${wordsOf(error)}`;
  return new EngineError(faultOf(error), message, { cause: error });
}

function faultOf(error: unknown): EngineError["fault"] {
  if (!(error instanceof StatusError)) return "unavailable";
  const { code } = error;
  if (code === 401 || code === 403) return "denied";
  if (code === 507 || /space exceeded|quota/i.test(error.message)) return "no-space";
  return [400, 404, 413, 422].includes(code) ? "invalid" : "unavailable";
}
