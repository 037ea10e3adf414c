import { native } from "#native/addon.ts";
import { errorCode, IoError } from "./io-error.ts";

/** A namespace and the path by which somebody found it. */
export interface RecordedNamespace {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
}

/**
 * Whether a namespace that was recorded earlier in this boot is the one that is meant now. Its number alone does not
 * tell: the kernel gives that of a namespace which is gone to the next one, as a rule at once. So where the paths
 * differ, the recorded one has to lead there still.
 */
export function isSameNamespace(recorded: RecordedNamespace, now: RecordedNamespace): boolean {
  if (recorded.dev !== now.dev || recorded.ino !== now.ino) return false;
  if (recorded.path === now.path) return true;
  const found = identifyNamespace(recorded.path);
  return typeof found !== "string" && found.dev === now.dev && found.ino === now.ino;
}

/**
 * Says which network namespace is at `path` (/proc/PID/ns/net, a bind-mounted file, a link to one): two paths with the
 * same device and inode are one namespace for as long as it lives. The kernel gives the inode number of a namespace
 * that is gone to the next one, so a stored identity that still matches may be another namespace.
 * @returns "missing" if nothing is there, "invalid" for anything but a network namespace
 * @throws {IoError} where the path can't be looked at, as for EACCES
 */
export function identifyNamespace(path: string): { dev: number; ino: number } | "missing" | "invalid" {
  if (path.includes("\0")) return "invalid";
  try {
    return native().identifyNetworkNamespace(path) ?? "invalid";
  } catch (cause) {
    const code = errorCode(cause) ?? "";
    if (["ENOENT", "ENOTDIR", "ESRCH"].includes(code)) return "missing";
    if (["ELOOP", "ENAMETOOLONG"].includes(code)) return "invalid";
    throw new IoError("look at network namespace", path, cause);
  }
}
