import type { Environment } from "#cni/plugin.ts";
import { callDbus, type DbusCall, DbusError } from "#machine/dbus.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";

/** firewalld is not running, or does not do what it is asked to. */
export class FirewalldError extends Error {
  constructor(message: string, cause: unknown) {
    super(`Cannot use firewalld: ${message}`, { cause });
    this.name = "FirewalldError";
  }
}

/** Where the system's bus is, unless the environment says otherwise (D-Bus specification, "Well-known buses"). */
const systemBus = "/run/dbus/system_bus_socket";

/**
 * Sources of a zone of firewalld's, at run time: a reload of firewalld forgets them. Like
 * `firewall-cmd --zone=ZONE --add-source=ADDRESS`.
 */
export class Firewalld {
  readonly #socketPath: string;

  constructor(environment: Environment) {
    const address = environment["DBUS_SYSTEM_BUS_ADDRESS"] ?? "";
    this.#socketPath = /^unix:path=([^,;]+)/u.exec(address)?.[1] ?? systemBus;
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
        if (isRefusal(error, "ALREADY_ENABLED")) continue;
        if (!isRefusal(error, "ZONE_CONFLICT")) throw explained(error);
        await this.#ask("changeZoneOfSource", [zone, source]);
      }
    }
  }

  /** Those that are not there are fine; so is a firewalld that does not run, as nothing is left of what it had. */
  async removeSources(zone: string, addresses: readonly IpAddress[]): Promise<void> {
    for (const source of sourcesOf(addresses)) {
      try {
        await this.#call("removeSource", [zone, source]);
      } catch (error) {
        if (!(error instanceof DbusError) || (error.isRefusal && !isGone(error))) throw explained(error);
      }
    }
  }

  /** @throws {FirewalldError} */
  async missingSources(zone: string, addresses: readonly IpAddress[]): Promise<readonly string[]> {
    const present = await this.#ask("getSources", [zone]);
    return sourcesOf(addresses).filter((source) => !present.includes(source));
  }

  async #ask(member: string, args: readonly string[]): Promise<readonly string[]> {
    try {
      return await this.#call(member, args);
    } catch (error) {
      throw explained(error);
    }
  }

  async #call(member: string, args: readonly string[]): Promise<readonly string[]> {
    const call: DbusCall = {
      destination: "org.fedoraproject.FirewallD1",
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

function isGone(error: unknown): boolean {
  return ["UNKNOWN_SOURCE", "NOT_ENABLED", "INVALID_ZONE", "ServiceUnknown"].some((code) =>
    isRefusal(error, code),
  );
}

function explained(error: unknown): FirewalldError {
  return new FirewalldError(error instanceof Error ? error.message : String(error), error);
}
