import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isJsonObject, type JsonObject } from "#cni/json.ts";

/** A configuration in a plugin's README, as the network that a reader would make of it. */
export interface ReadmeExample {
  /** `ptp README, example 2` */
  readonly title: string;
  readonly list: {
    readonly cniVersion: string;
    readonly name: string;
    readonly plugins: readonly JsonObject[];
  };
  /** What the runtime gives for the capabilities: `CAP_ARGS` of the example. */
  readonly capabilityArgs: JsonObject;
  readonly ifName: string;
  /** What the example says is printed; by the plugin `by`, which may be an IPAM plugin that is called alone. */
  readonly printed?: { readonly by: string; readonly result: JsonObject };
}

const folder = join(import.meta.dirname, "../plugins");
const ipamTypes: readonly unknown[] = ["host-local", "static", "dhcp"];
const chainedTypes: readonly unknown[] = ["bandwidth", "dns", "firewall", "portmap", "sbr", "tuning", "vrf"];
const first: JsonObject = {
  type: "bridge",
  isGateway: true,
  ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24", gateway: "10.1.0.1" }]] },
};

/** Every JSON of every plugin's README, those in a session at the console included; without errors that are shown. */
export function readmeExamples(): readonly ReadmeExample[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => examplesIn(name));
}

function examplesIn(plugin: string): readonly ReadmeExample[] {
  const text = readFileSync(join(folder, plugin, "README.md"), "utf8");
  const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```/gmsu)];
  const found = blocks.flatMap(([, language, block = ""]): readonly Omit<ReadmeExample, "title">[] => {
    if (language === "json") return described(JSON.parse(block), block);
    return language === "console" ? [...shownFiles(block), ...shownCalls(block)] : [];
  });
  return found.map((example, index) => ({ title: `${plugin} README, example ${index + 1}`, ...example }));
}

/** `$ cat FILE.conflist`, and what it prints. */
function shownFiles(block: string) {
  const shown = block.matchAll(/^\$ cat \S+\.conflist\n(.*?)(?=^\$ )/gmsu);
  return [...shown].flatMap(([, json = ""]) => described(JSON.parse(json), block));
}

/** `$ echo 'JSON' | PLUGIN`, and what it prints. */
function shownCalls(block: string) {
  const shown = block.matchAll(/^\$ echo '(.*?)' \| (\S+)\n(\{.*?^\})/gmsu);
  return [...shown].flatMap(([, json = "", by = "", printed = ""]) =>
    described({ type: by, ...(JSON.parse(json) as JsonObject) }, block).map((example) => ({
      ...example,
      printed: { by, result: JSON.parse(printed) as JsonObject },
    })),
  );
}

function described(json: unknown, block: string): readonly Omit<ReadmeExample, "title">[] {
  if (!isJsonObject(json)) throw new TypeError(`No JSON object: ${block}`);
  if (typeof json["code"] === "number" && typeof json["msg"] === "string") return [];
  const { cniVersion = "1.1.0", name = "net1", plugins = pluginsFor(json) } = json;
  const capabilityArgs = /CAP_ARGS='(.*?)'/u.exec(block)?.[1] ?? "{}";
  return [
    {
      list: { cniVersion, name, plugins } as ReadmeExample["list"],
      capabilityArgs: JSON.parse(capabilityArgs) as JsonObject,
      ifName: /CNI_IFNAME=(\S+)/u.exec(block)?.[1] ?? "eth0",
    },
  ];
}

/** The chain that a single plugin's configuration would stand in. */
function pluginsFor(json: JsonObject): readonly JsonObject[] {
  const { type, ipam } = json;
  if (type === undefined && isJsonObject(ipam)) return [{ type: "macvlan", master: "eth0", ipam }];
  if (ipamTypes.includes(type))
    return [{ type: "bridge", ipam: isJsonObject(ipam) ? { ...ipam, type } : json } as JsonObject];
  return chainedTypes.includes(type) ? [first, json] : [json];
}
