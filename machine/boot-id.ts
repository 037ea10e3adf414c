import { readFileSync } from "node:fs";

/**
 * Names this boot of the kernel: a new random UUID each time the machine starts. What was made in the kernel under
 * another one is gone.
 * @see Documentation/admin-guide/sysctl/kernel.rst, random
 */
export function readBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
