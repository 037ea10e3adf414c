/** No lease could be had, with what was heard and what not. */
export class DhcpError extends Error {
  /** False where asking again can't help: a server has refused, or the link is not fit for it. */
  readonly isTemporary: boolean;

  constructor(message: string, options: { readonly isTemporary?: boolean; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "DhcpError";
    this.isTemporary = options.isTemporary ?? true;
  }
}
