import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { sha256Hex } from "#machine/sha256.ts";
import { type IpAddress, ipFromBytes } from "#net/ip.ts";

/** PrivateKeyInfo of X25519 up to the 32 bytes themselves (RFC 8410 section 7). */
const pkcs8Prefix = Buffer.from("302e020100300506032b656e04220420", "hex");

/** A new private key for Curve25519, 32 bytes in base64 as all of WireGuard's tools write them. */
export function newPrivateKey(): string {
  const der = generateKeyPairSync("x25519").privateKey.export({ format: "der", type: "pkcs8" });
  return der.subarray(pkcs8Prefix.length).toString("base64");
}

/** @throws {RangeError} where the text is no key */
export function publicKeyOf(privateKey: string): string {
  const key = createPrivateKey({
    key: Buffer.concat([pkcs8Prefix, keyBytes(privateKey)]),
    format: "der",
    type: "pkcs8",
  });
  const { x = "" } = createPublicKey(key).export({ format: "jwk" });
  return Buffer.from(x, "base64url").toString("base64");
}

/** @throws {RangeError} */
export function keyBytes(key: string): Buffer {
  const bytes = Buffer.from(key, "base64");
  if (bytes.length !== 32 || bytes.toString("base64") !== key)
    throw new RangeError("not the base64 of 32 bytes");
  return bytes;
}

/**
 * Where the holder of a key is inside the encrypted tunnel: link-local, so that the kernel never sends to it but by the
 * device that was named, nor takes a VXLAN packet to it from any other; and made of the key, so that it needs no
 * allocation and two keys of one host have two.
 */
export function innerAddress(publicKey: string): IpAddress {
  const digest = Buffer.from(sha256Hex(publicKey), "hex");
  return ipFromBytes(Buffer.concat([Buffer.from("fe80000000000000", "hex"), digest.subarray(0, 8)]));
}
