declare const ifNameBrand: unique symbol;

/** Interface name that the kernel accepts. */
export type IfName = string & { readonly [ifNameBrand]: true };

/** IFNAMSIZ (include/uapi/linux/if.h) without the terminating zero. */
export const maxIfNameBytes = 15;

/** Why a text can't be an interface name, in the words of the reference CNI code (pkg/utils, ValidateInterfaceName). */
export interface IfNameProblem {
  readonly message: string;
  readonly details: string;
}

/**
 * The rules of the CNI specification 1.1.0 ("Network configuration", CNI_IFNAME): 1 to 15 bytes, not "." or
 * "..", no "/", ":" or white space. They are those of the kernel's dev_valid_name (net/core/dev.c), with
 * Unicode's white space on top, and what else no link can be named: the kernel would refuse it in the middle of an
 * ADD, or take it for a pattern.
 */
export function ifNameProblem(text: string): IfNameProblem | undefined {
  if (text === "") return { message: "interface name is empty", details: "" };
  if (Buffer.byteLength(text) > maxIfNameBytes) {
    return {
      message: "interface name is too long",
      details: "interface name should be less than 16 characters",
    };
  }
  if (text === "." || text === "..") return { message: "interface name is . or ..", details: "" };
  // \s has U+FEFF, which Unicode does not call white space, and lacks U+0085, which it does.
  if (/[/:\u0085]|(?!\ufeff)\s/u.test(text)) {
    return { message: "interface name contains / or : or whitespace characters", details: "" };
  }
  // A C string ends there: the kernel would make another name of it.
  if (text.includes("\0")) return { message: "interface name contains a zero byte", details: "" };
  // "eth%d" asks for the next free number (dev_alloc_name): the kernel would make another name of it, too.
  if (text.includes("%")) return { message: "interface name contains %", details: "" };
  // Directories of /proc/sys/net/ipv4/conf that stand for no interface (sysctl_dev_name_is_allowed).
  if (text === "all" || text === "default") {
    return { message: `interface name is ${text}, which the kernel keeps for itself`, details: "" };
  }
  return undefined;
}

/** @throws {RangeError} */
export function parseIfName(text: string): IfName {
  const problem = ifNameProblem(text);
  if (problem)
    throw new RangeError(`Cannot use ${JSON.stringify(text)} as interface name: ${problem.message}`);
  return text as IfName;
}
