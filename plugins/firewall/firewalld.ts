import { callDbus, type DbusCall, DbusError } from "#machine/dbus.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";

const serviceName = "org.fedoraproject.FirewallD1";
/** The bus itself answers that, at once. */
const presenceTimeoutMs = 2000;

/** firewalld is not running, or does not do what it is asked to. */
export class FirewalldError extends Error {
  /** False where nobody answers as firewalld: then it has no rules either. */
  readonly isRunning: boolean;

  constructor(cause: unknown) {
    super(`Cannot use firewalld: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = "FirewalldError";
    this.isRunning = !isNotRunning(cause);
  }
}

/**
 * Sources of a zone of firewalld's, at run time: a reload of firewalld forgets them. Like
 * `firewall-cmd --zone=ZONE --add-source=ADDRESS`.
 * @see firewalld.dbus(5), org.fedoraproject.FirewallD1.zone
 */
export class Firewalld {
  readonly #socketPath: string;

  /** @param socketPath of the bus that it is on */
  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Whether somebody is there. A bus that does not answer counts as nobody. Starts nothing. */
  async isRunning(): Promise<boolean> {
    const bus = "org.freedesktop.DBus";
    const call = { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "GetNameOwner" };
    try {
      await callDbus(this.#socketPath, { ...call, args: [serviceName] }, { timeoutMs: presenceTimeoutMs });
      return true;
    } catch {
      return false;
    }
  }

  /** @throws {FirewalldError} */
  async usable(): Promise<void> {
    await this.#ask("getActiveZones", []);
  }

  /** Those that are there are fine; one that another zone has is taken over. @throws {FirewalldError} */
  async addSources(zone: string, addresses: readonly IpAddress[]): Promise<void> {
    for (const source of sourcesOf(addresses)) {
      try {
        await this.#call("addSource", [zone, source]);
      } catch (error) {
        if (isRefusal(error, "ZONE_ALREADY_SET")) continue;
        if (!isRefusal(error, "ZONE_CONFLICT")) throw new FirewalldError(error);
        await this.#ask("changeZoneOfSource", [zone, source]);
      }
    }
  }

  /**
   * Those that are not there are fine, and so are those that somebody has put into another zone; so is a firewalld that
   * does not run, as nothing is left of what it had.
   * @throws {FirewalldError}
   */
  async removeSources(zone: string, addresses: readonly IpAddress[]): Promise<void> {
    for (const source of sourcesOf(addresses)) {
      try {
        await this.#call("removeSource", [zone, source]);
      } catch (error) {
        const isGone = goneCodes.some((code) => isRefusal(error, code));
        if (!isGone && !isNotRunning(error)) throw new FirewalldError(error);
      }
    }
  }

  /** What is not in the zone, in words. @throws {FirewalldError} */
  async misplaced(zone: string, addresses: readonly IpAddress[]): Promise<readonly string[]> {
    const problems: string[] = [];
    for (const source of sourcesOf(addresses)) {
      const [present = ""] = await this.#ask("getZoneOfSource", [source]);
      if (present === zone) continue;
      const where = present === "" ? "" : `, but in ${JSON.stringify(present)}`;
      problems.push(`firewalld: ${source} is not in zone ${JSON.stringify(zone)}${where}`);
    }
    return problems;
  }

  async #ask(member: string, args: readonly string[]): Promise<readonly string[]> {
    try {
      return await this.#call(member, args);
    } catch (error) {
      throw new FirewalldError(error);
    }
  }

  async #call(member: string, args: readonly string[]): Promise<readonly string[]> {
    const call: DbusCall = {
      destination: serviceName,
      path: "/org/fedoraproject/FirewallD1",
      interface: "org.fedoraproject.FirewallD1.zone",
      member,
      args,
    };
    return await callDbus(this.#socketPath, call);
  }
}

/** As the reference writes them: with the length of the prefix. */
function sourcesOf(addresses: readonly IpAddress[]): readonly string[] {
  return addresses.map((address) => `${formatIp(address)}/${address.family === 4 ? 32 : 128}`);
}

function isRefusal(error: unknown, code: string): boolean {
  return error instanceof DbusError && error.message.includes(code);
}

/** Of firewalld's errors: the source is in no zone, or in another, or there is no such zone. */
const goneCodes = ["UNKNOWN_SOURCE", "ZONE_CONFLICT", "INVALID_ZONE"];

/** The names of the bus for "nobody is there" and for "who was there has just gone"; what connect(2) says without a bus. */
const absence = ["ServiceUnknown", "NameHasNoOwner", "Error.NoReply"];
const unreachable = ["ENOENT", "ECONNREFUSED"];

function isNotRunning(error: unknown): boolean {
  if (!(error instanceof DbusError)) return false;
  if (error.isRefusal) return absence.some((name) => error.message.includes(name));
  const { cause } = error;
  return cause instanceof Error && "code" in cause && unreachable.includes(String(cause.code));
}
