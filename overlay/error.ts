/** Why something about the overlay can't be done; the engine itself was well. "unfit": not with the hosts that are there. */
export type OverlayFault = "taken" | "missing" | "exhausted" | "conflict" | "unfit";

export class OverlayError extends Error {
  override readonly name: string = "OverlayError";
  readonly fault: OverlayFault;

  constructor(fault: OverlayFault, message: string) {
    super(message);
    this.fault = fault;
  }
}
