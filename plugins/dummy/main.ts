import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { mac } from "#cni/schema-values.ts";
import { createDummy, dummyIsSupported } from "#kernel/dummy.ts";
import { removeLink } from "#kernel/link.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { type MacAddress, randomMac } from "#net/mac.ts";
import { removeContainerLink, setUpContainerLink } from "#plugins/container-link.ts";
import { dnsField, ipamField, overridesIpam } from "#plugins/interface-arguments.ts";
import type { InterfaceDriver } from "#plugins/interface-driver.ts";
import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { attachmentProblems } from "#plugins/interface-problems.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";

interface DummyConfig {
  readonly ipamType: string;
  readonly dns?: CniDns;
}

interface Made {
  readonly mac: MacAddress;
}

const what = "dummy configuration";
/** The fields of its configuration, for who looks for others. */
export const schema = goObject({ ipam: ipamField, dns: dnsField });
const madeSchema = goObject({ mac });

/** @throws {CniError} 7 with the field and its value */
export function parseDummyConfig(network: NetworkConfig): DummyConfig {
  const { ipam, dns } = parseConfig(schema, network.json, { what });
  if (ipam.type === "") {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use ${what}: "ipam" is missing: dummy interface requires an IPAM configuration`,
    );
  }
  return { ipamType: ipam.type, ...(dns && overridesIpam(dns) ? { dns } : {}) };
}

const driver: InterfaceDriver<DummyConfig, Made> = {
  name: "dummy",

  parse: parseDummyConfig,

  encodeMade: ({ mac: address }) => ({ mac: address }),
  decodeMade(made) {
    const outcome = v.safeParse(madeSchema, made);
    return outcome.success ? outcome.output : undefined;
  },

  plan: () => ({ mac: randomMac() }),

  connect({ container, ifName, made, undo }) {
    createDummy(container, { name: ifName, mac: made.mac });
    undo.push(`link ${JSON.stringify(ifName)}`, async () => void (await removeLink(container, ifName)));
    crashPoint("dummy-made");
  },

  async configure(work, ipam) {
    const { ipamType, dns = ipam?.dns ?? {} } = work.config;
    // Nobody else is there to have the address.
    return await setUpContainerLink(work, ipam, { what, ipamType, duplicateAddressDetection: false, dns });
  },

  problems: (work) => attachmentProblems(work, "dummy").problems,

  async remove(departing, _made, host) {
    await removeContainerLink(departing, host, "dummy");
  },

  status(_config, host) {
    if (!dummyIsSupported(host.kernel.namespace)) {
      throw new CniError(
        ErrorCode.PluginNotAvailable,
        "Cannot create dummy links: this kernel was built without CONFIG_DUMMY",
      );
    }
  },
};

/** Gives a container an interface that leads nowhere, to have addresses on it. */
export const dummy: SuitePlugin = interfacePlugin(driver);
