import { type AddressSpace, addressFindings } from "./address-space.ts";
import { capabilityFindings } from "./capabilities.ts";
import { contradictions, orderFindings } from "./chain-order.ts";
import { executableFindings } from "./executables.ts";
import { fieldFindings, type Readers } from "./fields.ts";
import type { Found } from "./finding.ts";
import type { LintSubject } from "./subject.ts";
import { listFindings } from "./versions.ts";

/** What a file is measured by. */
export interface LintContext extends AddressSpace {
  /** Directories of CNI_PATH. */
  readonly path: readonly string[];
  readonly readers: Readers;
}

/** All that is found in one file that gives a network. */
export function findingsOf(subject: LintSubject, context: LintContext): readonly Found[] {
  return [
    ...listFindings(subject),
    ...executableFindings(subject, context.path),
    ...orderFindings(subject),
    ...contradictions(subject),
    ...capabilityFindings(subject),
    ...fieldFindings(subject, context.readers),
    ...addressFindings(subject, context),
  ];
}
