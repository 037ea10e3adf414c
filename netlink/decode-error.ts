/** Thrown by every decoder of `netlink/`, and nothing else is, whatever the bytes. */
export class DecodeError extends Error {
  /** The attributes that lead to the place, outermost first. */
  readonly path: readonly string[];
  /** What is wrong there. */
  readonly reason: string;

  constructor(reason: string, path: readonly string[] = []) {
    super(`Cannot decode netlink ${path.length > 0 ? path.join(".") : "message"}: ${reason}`);
    this.name = "DecodeError";
    this.path = path;
    this.reason = reason;
  }

  /** The same, seen from the attribute that contains the place. */
  within(name: string): DecodeError {
    return new DecodeError(this.reason, [name, ...this.path]);
  }
}
