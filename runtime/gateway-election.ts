/** What one attachment brings along when the default gateway of one family is chosen. */
export interface GatewayCandidate {
  readonly network: string;
  readonly ifName: string;
  /** Higher ones win; 0 where nothing was said. */
  readonly priority: number;
  readonly internal: boolean;
  /** It has a default route of this family. */
  readonly hasGateway: boolean;
}

/**
 * The attachment whose gateway is the default one: that of the highest priority, then one that is not internal, then
 * the one whose network's name comes first. Undefined if none has a gateway. Each family has its own election.
 */
export function electGateway<Candidate extends GatewayCandidate>(
  candidates: readonly Candidate[],
): Candidate | undefined {
  return candidates.filter(({ hasGateway }) => hasGateway).toSorted(compare)[0];
}

function compare(a: GatewayCandidate, b: GatewayCandidate): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  if (a.internal !== b.internal) return a.internal ? 1 : -1;
  if (a.network !== b.network) return a.network < b.network ? -1 : 1;
  return a.ifName < b.ifName ? -1 : 1;
}
