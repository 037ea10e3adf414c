import { native } from "#native/addon.ts";

/**
 * SHA-256 (FIPS 180-4) as hex digits. Names and owner tags are derived with it, a few short ones for each request, and
 * loading node:crypto for that takes 8 ms, a fifth of what a plugin that runs as a process of its own has.
 */
export function sha256Hex(text: string): string {
  return native().sha256(Buffer.from(text));
}
