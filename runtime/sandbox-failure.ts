/** The request can't be served as the sandboxes are now. */
export class SandboxFailure extends Error {
  override readonly name = "SandboxFailure";
}
