import { CniError, ErrorCode } from "#cni/error.ts";
import type { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import { addUser, isUsed, listUsers, removeUser, type User, withThing } from "#plugins/users.ts";
import type { Made } from "./made.ts";

/**
 * All ipvlans on one link have one mode and flag: the kernel changes those that are there when another one is made
 * (ipvlan_set_port_mode in drivers/net/ipvlan/ipvlan_main.c). So the first on a link decides, and who wants something
 * else is refused instead of turning the others over. Only those in the host's namespace: a container's own master is
 * the container's business.
 */
export async function claimMode(
  made: Made,
  host: PluginHost,
  { user, undo }: { readonly user: User; readonly undo: Undo },
): Promise<void> {
  const { parent, mode, flag } = made;
  if (parent.inContainer) return;
  undo.push("ipvlan mode", () => releaseMode(made, host, user));
  await withThing(host, `ipvlan:${parent.name}`, () => {
    for (const otherMode of ["l2", "l3", "l3s"] as const) {
      for (const otherFlag of ["bridge", "private", "vepa"] as const) {
        const other = thingOf({ ...made, mode: otherMode, flag: otherFlag });
        if ((otherMode === mode && otherFlag === flag) || !isUsed(host, other)) continue;
        throw modeTaken(made, `${otherMode} ${otherFlag}`, listUsers(host, other)[0]?.user);
      }
    }
    addUser(host, thingOf(made), user);
    crashPoint("ipvlan-mode-claimed");
  });
}

function modeTaken({ parent, mode, flag }: Made, other: string, owner: User | undefined): CniError {
  const who = owner
    ? `container ${JSON.stringify(owner.key.containerId)} (${owner.key.ifName}, network ${JSON.stringify(owner.key.network)})`
    : "another container";
  return new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot create an ipvlan of mode ${mode} ${flag} on ${JSON.stringify(parent.name)}: ${who} has one of mode ${other} there, and all on one master have the same`,
  );
}

/** Nothing happens where it was not claimed. */
export async function releaseMode(made: Made, host: PluginHost, user: User): Promise<void> {
  const { parent } = made;
  if (parent.inContainer) return;
  await withThing(host, `ipvlan:${parent.name}`, () => void removeUser(host, thingOf(made), user));
}

function thingOf({ parent, mode, flag }: Made): string {
  return `ipvlan:${parent.name}:${mode}:${flag}`;
}

/** For GC: forgets users of the network that have no record any more. */
export async function sweepModes(host: PluginHost, network: string): Promise<void> {
  for (const { thing, user } of listUsers(host)) {
    const [kind, name] = thing.split(":");
    if (kind !== "ipvlan" || user.key.network !== network || host.journal.read(user.key, user.plugin))
      continue;
    await withThing(host, `ipvlan:${name}`, () => void removeUser(host, thing, user));
  }
}
