import { removeContainerLink } from "#plugins/container-link.ts";
import { Attempts, intact } from "#plugins/departing.ts";
import type { InterfaceDriver } from "#plugins/interface-driver.ts";
import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { parentStatus, releaseParent } from "#plugins/parent-link.ts";
import { sweepSharedLinks } from "#plugins/shared-link.ts";
import { needsNothing, type SuitePlugin } from "#plugins/upkeep.ts";
import { configure, connect, plan } from "./attach.ts";
import { type MacvlanConfig, parseMacvlanConfig } from "./config.ts";
import { hostAccessProblems, revokeHostAccess } from "./host-access.ts";
import { decodeMade, encodeMade, type Made } from "./made.ts";
import { problems } from "./problems.ts";

const driver: InterfaceDriver<MacvlanConfig, Made> = {
  name: "macvlan",
  parse: parseMacvlanConfig,
  encodeMade,
  decodeMade,
  plan,
  connect,
  configure,
  problems,
  async remove(departing, made, host) {
    const user = { key: departing.key, plugin: "macvlan" };
    const attempts = new Attempts();
    await attempts.attempt(async () => void (await removeContainerLink(departing, host, "macvlan")));
    const { hostAccess, parent } = made ?? {};
    if (hostAccess) await attempts.attempt(() => revokeHostAccess(hostAccess, host, user));
    if (parent) await attempts.attempt(() => releaseParent(parent, host, user));
    attempts.throwIfAny(departing.key);
  },
  sweep: (host) => [(network) => sweepSharedLinks(host, network)],
  upkeep: {
    needs: () => needsNothing,
    linkProblems(record, host) {
      const access = intact(record) && decodeMade(record.made)?.hostAccess;
      return access ? hostAccessProblems(access, host.kernel.namespace) : [];
    },
  },
  status: (config, host) => parentStatus(config.parent, host),
};

/** Gives each container an interface with a MAC address of its own on a link of the host. */
export const macvlan: SuitePlugin = interfacePlugin(driver);
