import { createHash } from "node:crypto";

/**
 * Id of a network, 64 hex digits as Docker's: a function of its name, so that a conflist written by anybody has
 * one. Tables show the first twelve.
 */
export function networkId(name: string): string {
  return createHash("sha256").update(`network\0${name}`).digest("hex");
}

/** Container id of the sandbox with this name: 64 hex digits, found again from the name alone after a crash. */
export function sandboxContainerId(name: string): string {
  return createHash("sha256").update(`sandbox\0${name}`).digest("hex");
}
