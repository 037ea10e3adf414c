/** When a message is sent again: RFC 8415 section 15, with its parameters in seconds (section 7.6). */
export interface RetransmissionLimits {
  /** IRT */
  readonly firstSeconds: number;
  /** MRT; 0 is none. */
  readonly longestSeconds: number;
  /** MRC: how often it is sent at all; absent: as long as there is time. */
  readonly times?: number;
  /** MRD: for how long; absent: no limit of its own. */
  readonly durationSeconds?: number;
}

/** RFC 8415 section 7.6: SOL_*, REQ_*, CNF_*, REN_*, REB_*, REL_*, DEC_* */
export const retransmission = {
  solicit: { firstSeconds: 1, longestSeconds: 3600 },
  request: { firstSeconds: 1, longestSeconds: 30, times: 10 },
  confirm: { firstSeconds: 1, longestSeconds: 4, durationSeconds: 10 },
  renew: { firstSeconds: 10, longestSeconds: 600 },
  rebind: { firstSeconds: 10, longestSeconds: 600 },
  decline: { firstSeconds: 1, longestSeconds: 0, times: 4 },
} as const satisfies Record<string, RetransmissionLimits>;

/**
 * How long to wait for an answer after sending: RT of section 15.
 * @param previousSeconds what was waited before; undefined after the first time
 * @param options.noEarlier the first wait is not shorter than it should be: section 18.2.1 wants that for SOLICIT
 */
export function nextPause(
  { firstSeconds, longestSeconds }: RetransmissionLimits,
  previousSeconds: number | undefined,
  options: { readonly noEarlier?: boolean } = {},
): number {
  if (previousSeconds === undefined) {
    const factor = options.noEarlier === true ? Math.random() * 0.1 : randomFactor();
    return firstSeconds * (1 + factor);
  }
  const pause = previousSeconds * (2 + randomFactor());
  return longestSeconds > 0 && pause > longestSeconds ? longestSeconds * (1 + randomFactor()) : pause;
}

/** RAND: between -0.1 and 0.1, so that many clients do not go on at once. */
function randomFactor(): number {
  return Math.random() * 0.2 - 0.1;
}
