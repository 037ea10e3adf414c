import { didYouMean } from "./nearest-word.ts";

/** The request can't be served as the sandboxes are now. */
export class SandboxFailure extends Error {
  override readonly name = "SandboxFailure";
}

/** @param others names of the sandboxes that there are */
export function notFound(name: string, others: readonly string[]): SandboxFailure {
  return new SandboxFailure(`sandbox ${name} not found${didYouMean(name, others)}`);
}
