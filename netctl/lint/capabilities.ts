import { field } from "#cni/json.ts";
import { nearestWord } from "#runtime/nearest-word.ts";
import { knownCapabilities, pluginFacts } from "./facts.ts";
import { below, type Found } from "./finding.ts";
import { declared, type LintedPlugin, type LintSubject } from "./subject.ts";

/** A plugin gets of `runtimeConfig` what it declares, and reads what it understands: both have to be. */
export function capabilityFindings({ plugins }: LintSubject): readonly Found[] {
  return plugins.flatMap((plugin) => [...notUnderstood(plugin), ...notDeclared(plugin, plugins)]);
}

/** With those of its IPAM plugin, which gets the same configuration. */
function understoodBy({ type, ipam }: LintedPlugin): readonly string[] | undefined {
  const own = pluginFacts.get(type);
  const delegated = ipam === undefined || ipam.type === "" ? undefined : pluginFacts.get(ipam.type);
  const isDelegateKnown = ipam === undefined || ipam.type === "" || delegated !== undefined;
  if (own === undefined || !isDelegateKnown) return undefined;
  return [...own.capabilities, ...(delegated?.capabilities ?? [])];
}

function notUnderstood(plugin: LintedPlugin): readonly Found[] {
  const understood = understoodBy(plugin);
  return declared(plugin).flatMap((name): Found[] => {
    const path = below(plugin.path, ["capabilities", name]);
    if (understood?.includes(name) === true) return [];
    if (!knownCapabilities.includes(name)) {
      const near = nearestWord(name, understood ?? knownCapabilities);
      return [
        {
          id: "capability-unknown",
          severity: near === undefined ? "note" : "warning",
          path,
          evidence: `no runtime and no plugin is known that has a capability "${name}"`,
          remedy: near === undefined ? "remove it, unless your runtime has it" : `write "${near}"`,
        },
      ];
    }
    if (understood === undefined) return [];
    return [
      {
        id: "capability-not-understood",
        severity: "warning",
        path,
        evidence: `${plugin.type} declares "${name}", and does not read it: what the runtime gives is lost without a word`,
        remedy: "declare it at the plugin that it is for, or remove it",
      },
    ];
  });
}

function notDeclared(plugin: LintedPlugin, plugins: readonly LintedPlugin[]): readonly Found[] {
  const { type, path, json } = plugin;
  const needs = pluginFacts.get(type)?.needs ?? [];
  const has = declared(plugin);
  const findings = needs
    .filter((name) => !has.includes(name) && !isConfigured(plugin, name))
    .map(
      (name): Found => ({
        id: "capability-not-declared",
        severity: "warning",
        path,
        evidence: `${type} gets no "${name}" from the runtime, since it does not declare that capability: it does nothing`,
        remedy: `add "capabilities": {"${name}": true}`,
      }),
    );
  if (type === "dns" && !has.includes("aliases")) {
    findings.push({
      id: "capability-not-declared",
      severity: "note",
      path,
      evidence:
        'dns gets no "aliases" from the runtime: containers are found by the beginning of their id alone',
      remedy: 'add "capabilities": {"aliases": true}',
    });
  }
  const isAsked = declaresElsewhere("ips", plugin, plugins);
  if (plugin.ipam?.type === "host-local" && isAsked && field(json, "capabilities") === undefined) {
    findings.push({
      id: "capability-not-declared",
      severity: "warning",
      path,
      evidence: `"ips" is declared by another plugin of the list, and not here, where addresses are given out`,
      remedy: 'add "capabilities": {"ips": true} here',
    });
  }
  return findings;
}

/** Rates may stand in the configuration itself; ports may not. */
function isConfigured({ json }: LintedPlugin, capability: string): boolean {
  return (
    capability === "bandwidth" && ["ingressRate", "egressRate"].some((key) => field(json, key) !== undefined)
  );
}

function declaresElsewhere(name: string, plugin: LintedPlugin, plugins: readonly LintedPlugin[]): boolean {
  return plugins.some((each) => each !== plugin && declared(each).includes(name));
}
