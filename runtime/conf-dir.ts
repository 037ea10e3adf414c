import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type NetworkList, parseConf, parseConfList, parsePluginConf } from "#cni/conflist.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { JsonObject } from "#cni/json.ts";
import { createDurably, removeDurably } from "#machine/durable-file.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { didYouMean } from "./nearest-word.ts";

/** A network, and the file that it comes from. */
export interface ConfiguredNetwork {
  readonly path: string;
  readonly list: NetworkList;
}

/** A file of the directory that gives no network, and why. */
export interface ConfProblem {
  readonly path: string;
  readonly error: Error;
}

export interface ConfDirectoryContent {
  /** By name of the file, lists before single configurations, as libcni looks for them. */
  readonly networks: readonly ConfiguredNetwork[];
  readonly problems: readonly ConfProblem[];
}

/** No network of that name is configured. */
export class UnknownNetwork extends Error {
  override readonly name = "UnknownNetwork";
  readonly network: string;
  /** Files that could not be read: it may be in one of them. */
  readonly problems: readonly ConfProblem[];

  /** @param others names of the networks that there are */
  constructor(
    network: string,
    directory: string,
    problems: readonly ConfProblem[],
    others: readonly string[],
  ) {
    const damaged = problems.map(({ path, error }) => `${path}: ${error.message}`).join("; ");
    const where = `${directory}${damaged === "" ? "" : ` (could not read ${damaged})`}`;
    super(`network ${network} not found in ${where}${didYouMean(network, others)}`);
    this.network = network;
    this.problems = problems;
  }
}

/** A directory of network configurations, as every CNI runtime reads it: `/etc/cni/net.d`. */
export class ConfDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * Reads all configurations: `.conflist` files, with the plugins of `<directory>/<name>/*.conf` appended where
   * the list permits it, then `.conf` and `.json` files with a single plugin. A file that can't be used hides no
   * other. Of two networks with one name the first counts. A missing directory is an empty one.
   * @throws {IoError} the directory can't be read
   */
  async load(): Promise<ConfDirectoryContent> {
    const files = await filesIn(this.path);
    const lists = files.filter((file) => file.endsWith(".conflist"));
    const singles = files.filter((file) => file.endsWith(".conf") || file.endsWith(".json"));
    const networks = new Map<string, ConfiguredNetwork>();
    const problems: ConfProblem[] = [];
    for (const path of [...lists, ...singles]) {
      try {
        const list = path.endsWith(".conflist")
          ? await this.#readList(path)
          : parseConf(await readFile(path, "utf8"));
        const earlier = networks.get(list.name);
        if (earlier !== undefined) {
          throw new CniError(
            ErrorCode.InvalidNetworkConfig,
            `network ${list.name} is defined in ${earlier.path} already`,
          );
        }
        networks.set(list.name, { path, list });
      } catch (error) {
        problems.push({ path, error: error instanceof Error ? error : new Error(String(error)) });
      }
    }
    return { networks: [...networks.values()], problems };
  }

  /** @throws {UnknownNetwork} naming the files that could not be read */
  async find(name: string): Promise<ConfiguredNetwork> {
    const { networks, problems } = await this.load();
    const found = networks.find(({ list }) => list.name === name);
    if (found === undefined) {
      const others = networks.map(({ list }) => list.name);
      throw new UnknownNetwork(name, this.path, problems, others);
    }
    return found;
  }

  /**
   * Writes a network's list as `<name>.conflist`, whole or not at all. Readable for everybody, as a configuration
   * without secrets.
   * @returns the path
   * @throws {IoError} EEXIST if there is such a file
   */
  async create(name: string, conflist: JsonObject): Promise<string> {
    const path = join(this.path, `${name}.conflist`);
    const text = `${JSON.stringify(conflist, null, 2)}\n`;
    await createDurably(path, text, { mode: 0o644, directoryMode: 0o755 });
    return path;
  }

  /** Removes a network's file; does nothing if it is gone. @throws {IoError} */
  async remove(network: ConfiguredNetwork): Promise<void> {
    await removeDurably(network.path);
  }

  async #readList(path: string): Promise<NetworkList> {
    const list = parseConfList(await readFile(path, "utf8"));
    if (list.loadOnlyInlinedPlugins) return list;
    const files = (await filesIn(join(this.path, list.name))).filter((file) => file.endsWith(".conf"));
    const loaded = await Promise.all(
      files.map(async (file) => parsePluginConf(await readFile(file, "utf8"))),
    );
    const plugins = [...list.plugins, ...loaded];
    if (plugins.length === 0) {
      throw new CniError(ErrorCode.InvalidNetworkConfig, `network ${list.name} has no plugins`);
    }
    // The cache keeps the JSON: it has to stand for the whole chain when the files have gone.
    const json = {
      ...list.json,
      plugins: plugins.map((plugin) => plugin.json),
      loadOnlyInlinedPlugins: true,
    };
    return files.length === 0 ? list : { ...list, plugins, json };
  }
}

/** Regular files, or links to such, by name. */
async function filesIn(directory: string): Promise<readonly string[]> {
  try {
    const paths = (await readdir(directory)).sort().map((name) => join(directory, name));
    const isFile = await Promise.all(
      paths.map((path) =>
        stat(path).then(
          (stats) => stats.isFile(),
          () => false,
        ),
      ),
    );
    return paths.filter((_, index) => isFile[index] === true);
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return [];
    throw new IoError("read configuration directory", directory, error);
  }
}
