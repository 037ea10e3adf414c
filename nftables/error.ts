import { type ElementRef, formatElement, type Operation, type PresentElement } from "./element.ts";

/** nftables can't be used here: the program is missing, or the kernel refuses. For STATUS (CNI code 50). */
export class NftablesUnavailableError extends Error {
  constructor(reason: string, cause: unknown) {
    super(`Cannot use nftables: ${reason}`, { cause });
    this.name = "NftablesUnavailableError";
  }
}

/** A map has another value for the key, so that it is taken: a published port, for instance. Nothing was done. */
export class ConflictError extends Error {
  readonly operation: Operation;
  readonly present: PresentElement;

  constructor(operation: Operation, present: PresentElement) {
    const element = formatElement(operation);
    const { owner, comment } = present;
    const holder = owner
      ? `container ${JSON.stringify(owner.containerId)} (${owner.ifName}, network ${JSON.stringify(owner.network)})`
      : `an element with the comment ${JSON.stringify(comment)}`;
    const value = formatElement({ set: operation.set, key: present.key, value: present.value });
    super(`Cannot add ${element}: ${holder} has ${value}`);
    this.name = "ConflictError";
    this.operation = operation;
    this.present = present;
  }
}

/** How an element that should be there is not as it should be. */
export interface Difference {
  readonly element: ElementRef;
  /** `masquerade4 { 10.1.0.2 } is missing` */
  readonly message: string;
}
