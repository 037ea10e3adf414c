import { field } from "#cni/json.ts";
import { pluginFacts } from "./facts.ts";
import type { Found } from "./finding.ts";
import { isSet, type LintedPlugin, type LintSubject } from "./subject.ts";

const placeOf = ({ type }: LintedPlugin) => pluginFacts.get(type)?.place;

/** Who has to come before whom. */
export function orderFindings({ plugins }: LintSubject): readonly Found[] {
  return [
    ...plugins.flatMap((plugin, index) => placeFindings(plugin, plugins.slice(0, index))),
    ...pairs(plugins),
  ];
}

function placeFindings(plugin: LintedPlugin, earlier: readonly LintedPlugin[]): readonly Found[] {
  const { type, path } = plugin;
  const place = placeOf(plugin);
  const at = `${path}.type`;
  if (place === "ipam") {
    return [
      {
        id: "order-ipam",
        severity: "error",
        path: at,
        evidence: `${type} gives out addresses, and makes no interface to have them`,
        remedy: `write it as "ipam": {"type": "${type}", …} of the plugin that makes the interface`,
      },
    ];
  }
  const before = earlier.filter((each) => placeOf(each) !== "chained");
  if (place === "chained" && before.length === 0) {
    return [
      {
        id: "order-chained-first",
        severity: "error",
        path: at,
        evidence: `${type} stands before any plugin that makes an interface: it gets no previous result, and fails the ADD`,
        remedy: "move it behind the plugin that makes the interface",
      },
    ];
  }
  const rival = earlier.find((each) => placeOf(each) === "interface");
  if (place === "interface" && rival !== undefined) {
    return [
      {
        id: "order-two-interfaces",
        severity: "error",
        path: at,
        evidence: `${type} and ${rival.type} (${rival.path}) would both make the interface CNI_IFNAME of the container`,
        remedy: "make two networks of it, one for each interface",
      },
    ];
  }
  const same = earlier.find((each) => each.type === type && place === "chained");
  if (same === undefined || type === "tuning") return [];
  return [
    {
      id: "order-twice",
      severity: "error",
      path: at,
      evidence: `${type} stands here twice, at ${same.path} as well: the second one would take away what the first one records`,
      remedy: "merge the two entries",
    },
  ];
}

interface Rule {
  readonly id: string;
  readonly severity: Found["severity"];
  readonly first: (plugin: LintedPlugin) => boolean;
  /** What must not come behind `first`. */
  readonly late: (plugin: LintedPlugin) => boolean;
  readonly why: string;
  readonly remedy: string;
}

const is = (type: string) => (plugin: LintedPlugin) => plugin.type === type;
const changesMac = (plugin: LintedPlugin) =>
  plugin.type === "tuning" && field(plugin.json, "mac") !== undefined;

const rules: readonly Rule[] = [
  {
    id: "order-vrf-after-sbr",
    severity: "error",
    first: is("sbr"),
    late: is("vrf"),
    why: "vrf moves the interface's routes to another table behind the back of sbr, whose rules then lead to routes that are gone",
    remedy: "move vrf before sbr",
  },
  {
    id: "order-dns-before-tuning",
    severity: "warning",
    first: is("dns"),
    late: changesMac,
    why: "the names are answered before the interface has the MAC address that its neighbours are to learn",
    remedy: "move tuning directly behind the plugin that makes the interface",
  },
];

function pairs(plugins: readonly LintedPlugin[]): readonly Found[] {
  return rules.flatMap(({ id, severity, first, late, why, remedy }) => {
    const start = plugins.findIndex(first);
    if (start < 0) return [];
    return plugins
      .slice(start + 1)
      .filter(late)
      .map(
        (plugin): Found => ({
          id,
          severity,
          path: `${plugin.path}.type`,
          evidence: `${plugin.type} stands behind ${plugins[start]?.type ?? ""} (${plugins[start]?.path ?? ""}): ${why}`,
          remedy,
        }),
      );
  });
}

/** What two plugins of a chain, or two fields of one, say against each other. */
export function contradictions({ plugins }: LintSubject): readonly Found[] {
  return plugins.flatMap((plugin) => [...withinPlugin(plugin), ...betweenPlugins(plugin, plugins)]);
}

function withinPlugin(plugin: LintedPlugin): readonly Found[] {
  const { type, path, json } = plugin;
  if (type !== "bridge") return [];
  const findings: Found[] = [];
  const isGateway = isSet(plugin, "isGateway") || isSet(plugin, "isDefaultGateway");
  if (isSet(plugin, "isDefaultGateway") && field(json, "isGateway") === false) {
    findings.push({
      id: "contradiction-gateway",
      severity: "warning",
      path: `${path}.isGateway`,
      evidence:
        '"isGateway" is false and "isDefaultGateway" true: the second one counts, the bridge gets an address',
      remedy: 'remove "isGateway", or make "isDefaultGateway" false',
    });
  }
  if (isSet(plugin, "ipMasq") && !isGateway && !isSet(plugin, "internal")) {
    findings.push({
      id: "contradiction-masquerade",
      severity: "warning",
      path: `${path}.ipMasq`,
      evidence:
        '"ipMasq" is true, and the host is no gateway here ("isGateway" is false): nothing of the containers passes it to be masqueraded',
      remedy: 'add "isGateway": true, or remove "ipMasq"',
    });
  }
  if (isGateway && plugin.ipam === undefined) {
    findings.push({
      id: "contradiction-ipam",
      severity: "warning",
      path: `${path}.isGateway`,
      evidence: "the bridge is to be a gateway, and without ipam nobody has an address",
      remedy: 'add "ipam", or remove "isGateway"',
    });
  }
  return findings;
}

/** Where the host has no part in the container's traffic, so that nothing can be published by it. */
const withoutHost: readonly string[] = ["host", "none", "loopback", "dummy", "host-device", "vlan"];
const onWire: readonly string[] = ["macvlan", "ipvlan"];

function betweenPlugins(plugin: LintedPlugin, plugins: readonly LintedPlugin[]): readonly Found[] {
  const { type, path } = plugin;
  const findings: Found[] = [];
  const base = plugins[0];
  if (base === undefined || plugin === base) return [];
  if (type === "portmap" && (withoutHost.includes(base.type) || onWire.includes(base.type))) {
    findings.push({
      id: "contradiction-portmap",
      severity: onWire.includes(base.type) && isSet(base, "hostAccess") ? "note" : "warning",
      path: `${path}.type`,
      evidence: `portmap publishes ports by the host, which has no way to a container of ${base.type}`,
      remedy: `remove portmap: such a container is reached by its own address`,
    });
  }
  if (type === "portmap" && isSet(base, "internal")) {
    findings.push({
      id: "contradiction-internal",
      severity: "warning",
      path: `${path}.type`,
      evidence: `the network is "internal" (${base.path}): nothing that is published in it can be reached`,
      remedy: 'remove portmap, or "internal"',
    });
  }
  if (changesMac(plugin) && (isSet(base, "macspoofchk") || isSet(base, "ipspoofchk"))) {
    findings.push({
      id: "contradiction-mac",
      severity: "error",
      path: `${path}.mac`,
      evidence: `tuning gives the interface another MAC address, from which ${base.path} with its spoof check lets nothing pass`,
      remedy: 'ask the bridge for the address: "capabilities": {"mac": true} there',
    });
  }
  const policy = field(plugin.json, "ingressPolicy");
  if (
    type === "firewall" &&
    policy !== undefined &&
    policy !== "open" &&
    policy !== "" &&
    base.type !== "bridge"
  ) {
    findings.push({
      id: "contradiction-ingress-policy",
      severity: "error",
      path: `${path}.ingressPolicy`,
      evidence: `"ingressPolicy" ${JSON.stringify(policy)} is about the bridge of the container, and ${base.type} makes none`,
      remedy: 'remove "ingressPolicy"',
    });
  }
  return findings;
}
