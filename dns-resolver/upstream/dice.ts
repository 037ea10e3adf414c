import { randomFillSync } from "node:crypto";

/** So many are drawn at once: each call of the system's generator costs more than a question does. */
const pool = new Uint8Array(4096);
let used = pool.length;

/** A random byte that nobody can guess. */
export function randomByte(): number {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  return pool[used++] as number;
}

/** From 0 to 65,535. */
export function randomId(): number {
  return (randomByte() << 8) | randomByte();
}
