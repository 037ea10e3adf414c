import type { ContainerReport } from "#dns-resolver/messages.ts";
import { nearestWord } from "#runtime/nearest-word.ts";

/** A container of this host, and what it is called in sentences. */
export interface KnownContainer {
  readonly label: string;
  readonly report: Pick<ContainerReport, "networks" | "state" | "problem">;
}

/**
 * What an operator wants to hear of a name that was not found, or leads elsewhere than he thought. Of this host's
 * containers alone: netd does not tell the names that other hosts of an overlay network have.
 * @param name as it was asked for; @param address where it was one
 */
export function hintsFor(
  { name, address }: { readonly name: string; readonly address: string | undefined },
  asker: KnownContainer,
  containers: readonly KnownContainer[],
): readonly string[] {
  const own = new Set(asker.report.networks.map(({ network }) => network));
  const all = containers.flatMap(({ label, report }) =>
    report.networks.map((attachment) => ({ label, ...attachment })),
  );
  const hints: string[] = [];
  if (asker.report.state !== "listening") {
    const why = asker.report.problem ?? "its namespace is gone";
    hints.push(`${asker.label} itself is not answered: ${why}`);
  }
  const asked = name.toLowerCase().replace(/\.$/, "");
  const elsewhere = all.filter(
    ({ network, names, addresses }) =>
      !own.has(network) &&
      (address === undefined
        ? names.some((each) => each === asked || `${each}.${network.toLowerCase()}` === asked)
        : addresses.some((each) => each.replace(/\/.*/, "") === address)),
  );
  for (const { label, network } of elsewhere) {
    const what = address === undefined ? `a name of ${label}` : `the address of ${label}`;
    hints.push(`${address ?? asked} is ${what} in network ${network}, in which ${asker.label} is not`);
  }
  if (elsewhere.length > 0 || address !== undefined) return hints;
  // A name with dots is another host's somewhere, as long as its end is not one of these networks.
  const ending = [...own].find((network) => asked.endsWith(`.${network.toLowerCase()}`));
  if (asked.includes(".") && ending === undefined) return hints;
  const label = ending === undefined ? asked : asked.slice(0, -ending.length - 1);
  const names = all.flatMap((each) =>
    own.has(each.network) && (ending ?? each.network) === each.network ? each.names : [],
  );
  const nearest = nearestWord(label, names);
  if (nearest !== undefined && nearest !== label) hints.push(`the nearest name there is: ${nearest}`);
  return hints;
}
