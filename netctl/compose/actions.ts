import { createHash } from "node:crypto";
import { Failure } from "#netctl/failure.ts";
import type { Network } from "#netctl/network/listing.ts";
import type { Sandbox } from "#runtime/sandbox.ts";
import type { ComposeNetwork, ComposeProject, ComposeService } from "./model.ts";

/** Labels by which Compose's own tools know what belongs together. */
export const projectLabel = "com.docker.compose.project";
export const serviceLabel = "com.docker.compose.service";
export const networkLabel = "com.docker.compose.network";
export const hashLabel = "com.docker.compose.config-hash";

/** One step from what there is to what the file says. */
export interface Action {
  readonly action: "create" | "remove";
  readonly kind: "network" | "sandbox";
  readonly name: string;
  /** Why it is removed, or made again; empty for what is new. */
  readonly reason: string;
  readonly network?: ComposeNetwork;
  readonly service?: ComposeService;
}

export interface Reconciliation {
  readonly actions: readonly Action[];
  /** Sandboxes and networks of the project that the file does not name, and that stay. */
  readonly orphans: readonly string[];
}

export interface Present {
  readonly networks: readonly Network[];
  readonly sandboxes: readonly Sandbox[];
}

/** A fingerprint of what makes a network or service what it is. */
export function hashOf(value: ComposeNetwork | ComposeService): string {
  const { sandboxes: _, ...rest } = value as ComposeService;
  return createHash("sha256").update(JSON.stringify(rest)).digest("hex");
}

/**
 * What has to be done, in order: what is to go, sandboxes first; then what is to come, networks first, and sandboxes
 * with addresses of their own before those that take what is left. Pure.
 * @throws {Failure} a network that somebody else has to make, or a name that is somebody else's
 */
export function reconcile(
  project: ComposeProject,
  present: Present,
  options: { readonly prune: boolean },
): Reconciliation {
  const used = new Set(project.services.flatMap(({ networks }) => networks.map(({ network }) => network)));
  const networks = project.networks.filter(({ isExternal, name }) => {
    if (!isExternal) return true;
    if (used.has(name) && !present.networks.some((each) => each.name === name)) {
      throw new Failure(`network ${name} declared as external, but could not be found`);
    }
    return false;
  });
  const stale = new Map<string, string>();
  for (const network of networks) {
    const found = present.networks.find(({ name }) => name === network.name);
    if (found === undefined) continue;
    refuseForeign(`network ${network.name}`, found.notes?.labels[projectLabel], project.name);
    if (found.notes?.labels[hashLabel] !== hashOf(network))
      stale.set(network.name, "the file says otherwise");
  }
  const wanted = project.services.flatMap((service) => service.sandboxes.map((name) => ({ name, service })));
  const ownSandboxes = present.sandboxes.filter(
    ({ settings }) => settings.labels[projectLabel] === project.name,
  );
  const leaving = new Map<string, string>();
  for (const { name, service } of wanted) {
    const found = present.sandboxes.find((each) => each.name === name);
    if (found === undefined) continue;
    refuseForeign(`sandbox ${name}`, found.settings.labels[projectLabel], project.name);
    const onStale = found.attachments.find(({ network }) => stale.has(network));
    if (found.state !== "ready") leaving.set(name, `it is ${found.state}`);
    else if (found.settings.labels[hashLabel] !== hashOf(service))
      leaving.set(name, "the file says otherwise");
    else if (onStale !== undefined) leaving.set(name, `network ${onStale.network} is made anew`);
  }
  const orphanSandboxes = ownSandboxes.filter(({ name }) => !wanted.some((each) => each.name === name));
  const orphanNetworks = present.networks.filter(
    ({ name, notes }) =>
      notes?.labels[projectLabel] === project.name && !networks.some((each) => each.name === name),
  );
  const orphans = [...orphanSandboxes, ...orphanNetworks].map(({ name }) => name);
  const gone = options.prune
    ? orphanSandboxes.map(({ name }) => [name, "the file does not name it"] as const)
    : [];
  const goneNetworks = options.prune
    ? orphanNetworks.map(({ name }) => [name, "the file does not name it"] as const)
    : [];
  const isMissing = (name: string) =>
    leaving.has(name) || !present.sandboxes.some((each) => each.name === name);
  const isFixed = ({ networks: endpoints }: ComposeService) => endpoints.some(({ ips }) => ips.length > 0);
  const creations = wanted.filter(({ name }) => isMissing(name));
  return {
    actions: [
      ...[...leaving, ...gone].map(
        ([name, reason]): Action => ({ action: "remove", kind: "sandbox", name, reason }),
      ),
      ...[...stale, ...goneNetworks].map(
        ([name, reason]): Action => ({ action: "remove", kind: "network", name, reason }),
      ),
      ...networks
        .filter(({ name }) => stale.has(name) || !present.networks.some((each) => each.name === name))
        .map(
          (network): Action => ({
            action: "create",
            kind: "network",
            name: network.name,
            reason: stale.get(network.name) ?? "",
            network,
          }),
        ),
      ...[
        ...creations.filter(({ service }) => isFixed(service)),
        ...creations.filter(({ service }) => !isFixed(service)),
      ].map(
        ({ name, service }): Action => ({
          action: "create",
          kind: "sandbox",
          name,
          reason: leaving.get(name) ?? "",
          service,
        }),
      ),
    ],
    orphans: options.prune ? [] : orphans,
  };
}

function refuseForeign(what: string, owner: string | undefined, project: string): void {
  if (owner === project) return;
  throw new Failure(
    `Cannot use ${what}: it is ${owner === undefined ? "of no Compose project" : `of project ${owner}`}; say "external: true" of a network that others made, or choose another name`,
  );
}

/** What takes a project away, whatever its file says by now. Pure. */
export function takeAway(project: string, { networks, sandboxes }: Present): readonly Action[] {
  return [
    ...sandboxes
      .filter(({ settings }) => settings.labels[projectLabel] === project)
      .map(({ name }): Action => ({ action: "remove", kind: "sandbox", name, reason: "" })),
    ...networks
      .filter(({ notes }) => notes?.labels[projectLabel] === project)
      .map(({ name }): Action => ({ action: "remove", kind: "network", name, reason: "" })),
  ];
}
