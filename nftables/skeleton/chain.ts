/** One chain of the skeleton, in nft's own language. */
export interface Chain {
  readonly name: string;
  /** Absent for a chain that other chains jump to. */
  readonly hook?: string;
  readonly rules: readonly string[];
  /** True for one whose rules are the operator's: it is made where it is missing, and else left alone. */
  readonly isUsers?: true;
}
