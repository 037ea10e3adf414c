import { existsSync, readdirSync, readFileSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { type LockOptions, withFileLock } from "#machine/lock.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { sha256Hex } from "#machine/sha256.ts";
import type { PluginHost } from "./context.ts";

/**
 * Who needs something of the host that goes with its last user: one file for each in `<run>/shared/<thing>/`, so that
 * asking whether anybody is left costs the same with one user and with a thousand. Volatile, as the things are.
 */
export interface User {
  readonly key: AttachmentKey;
  /** Type name, as in the journal. */
  readonly plugin: string;
}

/** Counts somebody in; nothing happens for one who is in. Hold the thing's lock. @throws {IoError} */
export function addUser(host: PluginHost, thing: string, user: User): void {
  const directory = `${directoryOf(host)}/${thing}`;
  const path = `${directory}/${fileName(user)}`;
  try {
    makeDirectory(directory, 0o700);
    writeFileSync(path, `${JSON.stringify(user)}\n`, { mode: 0o600 });
  } catch (cause) {
    throw new IoError("write", path, cause);
  }
}

/** Counts somebody out, or nobody. Hold the thing's lock. @returns true where nobody is left @throws {IoError} */
export function removeUser(host: PluginHost, thing: string, user: User): boolean {
  const directory = `${directoryOf(host)}/${thing}`;
  const path = `${directory}/${fileName(user)}`;
  try {
    unlinkSync(path);
  } catch (cause) {
    if (errorCode(cause) !== "ENOENT") throw new IoError("remove", path, cause);
  }
  try {
    rmdirSync(directory);
    return true;
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return true;
    if (errorCode(cause) === "ENOTEMPTY" || errorCode(cause) === "EEXIST") return false;
    throw new IoError("remove", directory, cause);
  }
}

/** Whether the thing has users. */
export function isUsed(host: PluginHost, thing: string): boolean {
  return existsSync(`${directoryOf(host)}/${thing}`);
}

/** Users of one thing, or of all. Reads each one's file: not for what every container does. @throws {IoError} */
export function listUsers(
  host: PluginHost,
  thing?: string,
): readonly { readonly thing: string; readonly user: User }[] {
  const things = thing === undefined ? list(directoryOf(host)) : [thing];
  return things.flatMap((each) =>
    list(`${directoryOf(host)}/${each}`).flatMap((file) => {
      const user = readUser(`${directoryOf(host)}/${each}/${file}`);
      return user ? [{ thing: each, user }] : [];
    }),
  );
}

/** Runs `action` while nobody else makes, counts or removes the thing. @throws {LockTimeoutError} */
export function withThing<Value>(
  host: PluginHost,
  thing: string,
  action: () => Value | Promise<Value>,
  options: LockOptions = { timeoutMs: 10_000 },
): Promise<Value> {
  return withFileLock(join(host.directories.run, "locks", `shared-${thing}`), action, options);
}

const userSchema = goObject({
  key: goObject({ network: v.string(), containerId: v.string(), ifName: v.string() }),
  plugin: v.string(),
});

function readUser(path: string): User | undefined {
  try {
    const outcome = v.safeParse(userSchema, JSON.parse(readFileSync(path, "utf8")));
    return outcome.success ? outcome.output : undefined;
  } catch {
    // It has gone since, or is being written: its lock is not held here.
    return undefined;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if (errorCode(cause) === "ENOENT") return [];
    throw new IoError("list directory", directory, cause);
  }
}

function directoryOf(host: PluginHost): string {
  return join(host.directories.run, "shared");
}

function fileName({ key, plugin }: User): string {
  return sha256Hex(JSON.stringify([key.network, key.containerId, key.ifName, plugin])).slice(0, 32);
}
