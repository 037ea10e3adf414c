import type * as v from "valibot";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject } from "#cni/schema.ts";
import { schema as bandwidth, parseBandwidthConfig } from "#plugins/bandwidth/config.ts";
import { schema as bridge, parseBridgeConfig } from "#plugins/bridge/config.ts";
import { ipamSchema as dhcp, parseDhcpConfig } from "#plugins/dhcp/config.ts";
import { schema as dns, parseDnsConfig } from "#plugins/dns/config.ts";
import { schema as dummy, parseDummyConfig } from "#plugins/dummy/main.ts";
import { schema as firewall, parseFirewallConfig } from "#plugins/firewall/config.ts";
import { schema as hostDevice, parseHostDeviceConfig } from "#plugins/host-device/config.ts";
import { ipamSchema as hostLocal, parseConfiguredSets } from "#plugins/host-local/config.ts";
import { schema as ipvlan, parseIpvlanConfig } from "#plugins/ipvlan/config.ts";
import { schema as macvlan, parseMacvlanConfig } from "#plugins/macvlan/config.ts";
import { parsePortmapConfig, schema as portmap } from "#plugins/portmap/config.ts";
import { parsePtpConfig, schema as ptp } from "#plugins/ptp/config.ts";
import { parseSbrConfig, schema as sbr } from "#plugins/sbr/config.ts";
import { parseStaticConfig, ipamSchema as staticIpam } from "#plugins/static/config.ts";
import { parseTapConfig, schema as tap } from "#plugins/tap/config.ts";
import { parseTuningConfig, schema as tuning } from "#plugins/tuning/config.ts";
import { parseVlanConfig, schema as vlan } from "#plugins/vlan/config.ts";
import { parseVrfConfig, schema as vrf } from "#plugins/vrf/config.ts";

/** How a plugin reads its configuration, for who wants to know before it is asked: `netctl lint`. */
export interface ConfigReader {
  /** Its fields beside those that every plugin has: of its entry in the list, or of `ipam` for an IPAM plugin. */
  readonly schema: v.GenericSchema;
  /** As ADD reads it, without what the runtime brings. @throws {CniError} 7 with the field and its value */
  readonly parse: (network: NetworkConfig) => unknown;
}

const nobody = { containerId: "", ifName: "", args: [] };
const nothing = goObject({});

const interfaces: Readonly<Record<string, ConfigReader>> = {
  bridge: { schema: bridge, parse: (network) => parseBridgeConfig(network) },
  dummy: { schema: dummy, parse: parseDummyConfig },
  host: { schema: nothing, parse: () => undefined },
  "host-device": { schema: hostDevice, parse: (network) => parseHostDeviceConfig(network) },
  ipvlan: { schema: ipvlan, parse: parseIpvlanConfig },
  loopback: { schema: nothing, parse: () => undefined },
  macvlan: { schema: macvlan, parse: (network) => parseMacvlanConfig(network) },
  none: { schema: nothing, parse: () => undefined },
  "overlay-vxlan": { schema: nothing, parse: () => undefined },
  ptp: { schema: ptp, parse: (network) => parsePtpConfig(network) },
  tap: { schema: tap, parse: (network) => parseTapConfig(network) },
  vlan: { schema: vlan, parse: parseVlanConfig },
};

const chained: Readonly<Record<string, ConfigReader>> = {
  bandwidth: { schema: bandwidth, parse: parseBandwidthConfig },
  dns: { schema: dns, parse: parseDnsConfig },
  firewall: { schema: firewall, parse: parseFirewallConfig },
  portmap: { schema: portmap, parse: parsePortmapConfig },
  sbr: { schema: sbr, parse: parseSbrConfig },
  tuning: { schema: tuning, parse: (network) => parseTuningConfig(network, []) },
  vrf: { schema: vrf, parse: parseVrfConfig },
};

const ipam: Readonly<Record<string, ConfigReader>> = {
  dhcp: { schema: dhcp, parse: (network) => parseDhcpConfig(network, nobody) },
  "host-local": { schema: hostLocal, parse: parseConfiguredSets },
  static: { schema: staticIpam, parse: (network) => parseStaticConfig(network, []) },
};

/** By place in a network: who makes interfaces, who comes after that, and who is asked for addresses. */
export const configReaders = { interfaces, chained, ipam };
