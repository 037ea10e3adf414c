import { isIdentifier } from "./environment.ts";
import { CniError, ErrorCode } from "./error.ts";
import { field, isJsonObject, type JsonObject, type JsonValue } from "./json.ts";
import { atLeast, type CniVersion, isCniVersion, oldestVersion } from "./version.ts";

/** One entry of a list's `plugins`. */
export interface PluginConf {
  readonly type: string;
  /** Names of the capabilities that it declares `true`. */
  readonly capabilities: readonly string[];
  readonly json: JsonObject;
}

/** A network: what a `.conflist` file says (SPEC.md 1.1.0, "Network configuration format"). */
export interface NetworkList {
  readonly name: string;
  readonly cniVersion: CniVersion;
  readonly disableCheck: boolean;
  readonly disableGc: boolean;
  readonly loadOnlyInlinedPlugins: boolean;
  /** May be empty if plugins are to come from `<directory>/<name>/*.conf`. */
  readonly plugins: readonly PluginConf[];
  /** The whole object as it was read. */
  readonly json: JsonObject;
}

/**
 * Reads a network list as libcni does: keys of the list in their exact case.
 * @throws {CniError} 6 for text that is no JSON object, 7 for its fields, 1 if no version of it is known
 */
export function parseConfList(text: string): NetworkList {
  return readConfList(parseObject(text, "configuration list"));
}

/** Like `parseConfList`, for JSON that has been parsed. */
export function readConfList(json: JsonObject): NetworkList {
  const loadOnlyInlinedPlugins = readFlag(json, "loadOnlyInlinedPlugins");
  return {
    name: readName(json),
    cniVersion: readVersion(json),
    disableCheck: readFlag(json, "disableCheck"),
    disableGc: readFlag(json, "disableGC"),
    loadOnlyInlinedPlugins,
    plugins: readPlugins(json, loadOnlyInlinedPlugins),
    json,
  };
}

/**
 * Reads the configuration of one plugin: an entry of a list, or a file of `<directory>/<network>/`.
 * @throws {CniError} 6 or 7
 */
export function parsePluginConf(text: string): PluginConf {
  return readPluginConf(parseObject(text, "configuration"));
}

/** The network that a plain `.conf` file stands for: a list with that one plugin. @throws {CniError} 6, 7, 1 */
export function parseConf(text: string): NetworkList {
  const plugin = parseObject(text, "configuration");
  const name = field(plugin, "name");
  const cniVersion = field(plugin, "cniVersion");
  return readConfList({
    ...(name === undefined ? {} : { name }),
    ...(cniVersion === undefined ? {} : { cniVersion }),
    plugins: [plugin],
  });
}

function parseObject(text: string, what: string): JsonObject {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CniError(ErrorCode.DecodingFailure, `error parsing ${what}: no JSON`, { cause });
  }
  if (isJsonObject(json)) return json;
  throw new CniError(ErrorCode.DecodingFailure, `error parsing ${what}: no JSON object`);
}

function invalid(what: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `error parsing configuration list: ${what}`);
}

function readName(json: JsonObject): string {
  const name = json["name"] ?? "";
  if (typeof name !== "string") throw invalid(`name ${JSON.stringify(name)} must be a string`);
  if (name === "") throw invalid("no name");
  if (!isIdentifier(name)) {
    throw invalid(
      `name ${JSON.stringify(name)} must start with a letter or digit and go on with those, "_", "." and "-"`,
    );
  }
  return name;
}

/** The highest of `cniVersions` and `cniVersion` that is known here. */
function readVersion(json: JsonObject): CniVersion {
  const single = json["cniVersion"] ?? "";
  if (typeof single !== "string") throw invalid(`cniVersion ${JSON.stringify(single)} must be a string`);
  const several = json["cniVersions"] ?? [];
  if (!Array.isArray(several) || !several.every((each) => typeof each === "string")) {
    throw invalid(`cniVersions ${JSON.stringify(several)} must be a list of strings`);
  }
  let highest: CniVersion | undefined;
  for (const version of [single, ...several]) {
    if (isCniVersion(version) && (!highest || atLeast(version, highest))) highest = version;
  }
  if (highest) return highest;
  const offered = [single, ...several].filter((version) => version !== "");
  if (offered.length === 0) return oldestVersion;
  throw new CniError(ErrorCode.IncompatibleVersion, "incompatible CNI versions", {
    details: `configuration list offers [${offered.join(" ")}]`,
  });
}

function readFlag(json: JsonObject, key: string): boolean {
  const value = json[key] ?? false;
  if (typeof value === "boolean") return value;
  const text = typeof value === "string" ? value.toLowerCase() : undefined;
  if (text === "true") return true;
  if (text === "false") return false;
  throw invalid(`${key} ${JSON.stringify(value)} must be true or false`);
}

function readPlugins(json: JsonObject, loadOnlyInlinedPlugins: boolean): readonly PluginConf[] {
  const plugins = json["plugins"];
  if (plugins === undefined) {
    if (loadOnlyInlinedPlugins) throw invalid("loadOnlyInlinedPlugins is true, and there is no plugins key");
    return [];
  }
  if (!Array.isArray(plugins)) throw invalid(`plugins ${JSON.stringify(plugins)} must be a list`);
  if (plugins.length === 0) throw invalid("no plugins in list");
  return plugins.map((plugin: JsonValue, index) => {
    if (!isJsonObject(plugin)) throw invalid(`plugins[${index}] must be an object`);
    return readPluginConf(plugin, `plugins[${index}].`);
  });
}

function readPluginConf(json: JsonObject, where = ""): PluginConf {
  const type = field(json, "type") ?? "";
  if (typeof type !== "string") throw invalid(`${where}type ${JSON.stringify(type)} must be a string`);
  if (type === "") throw invalid(`missing '${where}type'`);
  const capabilities = field(json, "capabilities") ?? {};
  if (!isJsonObject(capabilities)) {
    throw invalid(`${where}capabilities ${JSON.stringify(capabilities)} must be an object`);
  }
  return {
    type,
    capabilities: Object.entries(capabilities).flatMap(([name, isWanted]) => {
      if (typeof isWanted === "boolean") return isWanted ? [name] : [];
      throw invalid(`${where}capabilities.${name} ${JSON.stringify(isWanted)} must be true or false`);
    }),
    json,
  };
}
