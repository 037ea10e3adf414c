/** Seconds since the machine's start, which no change of the clock moves; Infinity for what never comes. */
export interface LeaseTimes {
  readonly obtainedAt: number;
  /** T1: from then on the server is asked to extend it. */
  readonly renewAt: number;
  /** T2: any server. */
  readonly rebindAt: number;
  readonly expiresAt: number;
}
