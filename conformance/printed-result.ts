import type { JsonObject, JsonValue } from "#cni/json.ts";
import { expect } from "./failure.ts";

/** The ADD result as it was printed, read strictly by the shape of its version. */
export interface PrintedResult {
  readonly json: JsonObject;
  readonly interfaces: readonly PrintedInterface[];
  readonly ips: readonly PrintedIp[];
  readonly routes: readonly PrintedRoute[];
  readonly dns: JsonObject;
}

export interface PrintedInterface {
  readonly name: string;
  readonly mac: string;
  readonly sandbox: string;
}

export interface PrintedIp {
  readonly address: string;
  /** The address without its prefix. */
  readonly ip: string;
  readonly gateway: string | undefined;
  readonly interface: number | undefined;
}

export interface PrintedRoute {
  readonly dst: string;
  readonly gw: string | undefined;
  readonly json: JsonObject;
}

const cidrPattern = /^[0-9a-fA-F.:]+\/\d{1,3}$/;

/**
 * Reads a result of 0.3.0 and newer (SPEC, "ADD Success").
 * @throws {Failure} naming the first field that is not as the version has it
 */
export function readResult(json: JsonObject, version: string): PrintedResult {
  expect(
    json["cniVersion"] === version,
    `result has cniVersion ${show(json["cniVersion"])}, the config ${version}`,
  );
  expect(!("ip4" in json) && !("ip6" in json), `result of ${version} has ip4 or ip6, which ended with 0.2.0`);
  const interfaces = objects(json["interfaces"], "interfaces").map((entry, at) => ({
    name: string(entry["name"], `interfaces[${at}].name`),
    mac: optionalString(entry["mac"], `interfaces[${at}].mac`) ?? "",
    sandbox: optionalString(entry["sandbox"], `interfaces[${at}].sandbox`) ?? "",
  }));
  const ips = objects(json["ips"], "ips").map((entry, at) => {
    const address = string(entry["address"], `ips[${at}].address`);
    expect(cidrPattern.test(address), `ips[${at}].address ${show(address)} is not in CIDR notation`);
    const family = address.includes(":") ? "6" : "4";
    if (version.startsWith("0.")) {
      expect(
        entry["version"] === family,
        `ips[${at}].version is ${show(entry["version"])}, ${version} asks for "${family}"`,
      );
    } else {
      expect(!("version" in entry), `ips[${at}] has version, which ended with 0.4.0`);
    }
    const index = entry["interface"];
    expect(index === undefined || typeof index === "number", `ips[${at}].interface is ${show(index)}`);
    expect(
      index === undefined || (Number.isInteger(index) && index < interfaces.length),
      `ips[${at}].interface is ${show(index)}, but there are ${interfaces.length} interfaces`,
    );
    return {
      address,
      ip: address.slice(0, address.indexOf("/")),
      gateway: optionalString(entry["gateway"], `ips[${at}].gateway`),
      interface: index,
    };
  });
  const routes = objects(json["routes"], "routes").map((entry, at) => {
    const dst = string(entry["dst"], `routes[${at}].dst`);
    expect(cidrPattern.test(dst), `routes[${at}].dst ${show(dst)} is not in CIDR notation`);
    return { dst, gw: optionalString(entry["gw"], `routes[${at}].gw`), json: entry };
  });
  const dns = json["dns"];
  expect(dns === undefined || isObject(dns), `dns is ${show(dns)}`);
  return { json, interfaces, ips, routes, dns: isObject(dns) ? dns : {} };
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value for a message. */
export function show(value: unknown): string {
  const shown = JSON.stringify(value) ?? "missing";
  return shown.length > 200 ? `${shown.slice(0, 200)}…` : shown;
}

function objects(value: JsonValue | undefined, name: string): readonly JsonObject[] {
  if (value === undefined || value === null) return [];
  expect(Array.isArray(value), `${name} is ${show(value)}, not a list`);
  return (value as readonly JsonValue[]).map((entry, at) => {
    expect(isObject(entry), `${name}[${at}] is ${show(entry)}, not an object`);
    return entry;
  });
}

function string(value: JsonValue | undefined, name: string): string {
  expect(typeof value === "string", `${name} is ${show(value)}, not a string`);
  return value;
}

function optionalString(value: JsonValue | undefined, name: string): string | undefined {
  if (value === undefined) return undefined;
  return string(value, name);
}
