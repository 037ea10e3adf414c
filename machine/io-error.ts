/** A system call on a file that failed, said for people: which action, on which path, why. */
export class IoError extends Error {
  /** "ENOSPC", "EROFS", … as in Node's own errors; "EIO" where the cause had none. */
  readonly code: string;
  readonly path: string;
  readonly syscall: string;

  /** @param action what was tried, without the path: "write journal record" */
  constructor(action: string, path: string, cause: unknown) {
    super(`Cannot ${action} ${JSON.stringify(path)}: ${reasonOf(cause)}`, { cause });
    this.name = "IoError";
    this.code = errorCode(cause) ?? "EIO";
    this.path = path;
    this.syscall = textField(cause, "syscall") ?? "";
  }
}

/** The errno name of an error of Node or of the addon: "ENOENT"; `undefined` for anything else. */
export function errorCode(error: unknown): string | undefined {
  const code = textField(error, "code");
  return code !== undefined && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

function textField(error: unknown, name: "code" | "syscall"): string | undefined {
  if (typeof error !== "object" || error === null || !(name in error)) return undefined;
  const value = (error as Record<string, unknown>)[name];
  return typeof value === "string" ? value : undefined;
}

/** Node writes `ENOSPC: no space left on device, write '/path'`; the path is in the sentence already. */
function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.replace(/, \w+(?: '.*')?$/s, "");
}
