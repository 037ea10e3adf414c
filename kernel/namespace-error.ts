/** A path that is no network namespace, or no longer the one it was. */
export class NamespaceError extends Error {
  readonly path: string;

  constructor(path: string, reason: string, options: { readonly cause?: unknown } = {}) {
    super(
      `Cannot open network namespace ${JSON.stringify(path)}: ${reason}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = "NamespaceError";
    this.path = path;
  }
}
