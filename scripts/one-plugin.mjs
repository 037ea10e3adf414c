// A standalone program with one plugin that attaches, for those that runtimes call for most containers: a process reads
// and unpacks its code anew each time, and half of it is that of the other plugins.
import { readFileSync } from "node:fs";

const registry = /[\\/]suite[\\/]plugins\.ts$/;
const row =
  /^ {2}"?(?<name>[\w-]+)"?: async \(\) => \(await import\("#plugins\/[\w-]+\/main\.ts"\)\)\.\w+,$/gm;
const ipam = new Set(["host-local", "static", "dhcp"]);

/**
 * For esbuild: of the registry's plugins leaves `name` and those of IPAM. The others' names stay, since whoever
 * delegates to one of them is refused whether or not its code is at hand.
 */
export function onlyPlugin(name) {
  return {
    name: "only-plugin",
    setup(build) {
      build.onLoad({ filter: registry }, ({ path }) => {
        let left = 0;
        const contents = readFileSync(path, "utf8").replaceAll(row, (line, other) => {
          if (other !== name && !ipam.has(other))
            return `  ${JSON.stringify(other)}: async () => ({ name: ${JSON.stringify(other)}, hostNamespace: "refused" }),`;
          left++;
          return line;
        });
        if (left !== ipam.size + 1)
          throw new Error(`Cannot bundle ${name} alone: the registry in ${path} does not read as expected`);
        return { contents, loader: "ts" };
      });
    },
  };
}
