import type { Expectation } from "./expectation.ts";
import type { AttachmentView, JournalView } from "./model.ts";

/** Everything about one attachment that can be compared. */
export interface Comparison {
  readonly attachment: Omit<AttachmentView, "differences">;
  /** Undefined where no usable result of its ADD was recorded. */
  readonly expectation: Expectation | undefined;
  /** Bridges that the network's plugins name. */
  readonly bridges: readonly string[];
  /** False where host-local serves the network not, or its leases can't be read. */
  readonly hasLeases: boolean;
  /** Addresses that its record says are masqueraded; undefined where the elements can't be read. */
  readonly masqueraded: readonly string[] | undefined;
}

/** Where what was recorded of an attachment and what the kernel has do not agree. Empty where all is well. */
export function compareAttachment(comparison: Comparison): readonly string[] {
  const { attachment } = comparison;
  const journal = attachment.journal.flatMap(judgeRecord);
  if (!attachment.alive) return [...journal, describeAbsence(attachment)];
  return [
    ...journal,
    ...compareInside(comparison),
    ...compareOutside(comparison),
    ...compareRecords(comparison),
  ];
}

function judgeRecord({ plugin, phase, thisBoot }: JournalView): readonly string[] {
  if (phase === "torn") return [`the journal's record of plugin ${plugin} is damaged`];
  if (!thisBoot) return [`the journal's record of plugin ${plugin} is of before the machine was started`];
  if (phase === "leaving") return [`plugin ${plugin} began DEL and did not end it`];
  return phase === "intent" ? [`plugin ${plugin} began ADD and did not end it`] : [];
}

function describeAbsence({ netns }: Comparison["attachment"]): string {
  return netns === "" ? "nobody recorded its namespace" : `its namespace ${netns} is gone`;
}

function compareInside({ attachment, expectation }: Comparison): readonly string[] {
  const { inside, ifName } = attachment;
  if (expectation?.hasInterface === false) return [];
  if (inside === null) return [`${ifName} is missing in its namespace`];
  const found: string[] = [];
  if (!inside.up) found.push(`${ifName} is down in its namespace`);
  if (expectation === undefined) return found;
  if (expectation.mac !== "" && expectation.mac !== inside.mac) {
    found.push(`${ifName} has MAC ${inside.mac}, recorded is ${expectation.mac}`);
  }
  const has = new Set(inside.addresses);
  const recorded = new Set(expectation.addresses);
  for (const address of expectation.addresses) {
    if (!has.has(address)) found.push(`${ifName} lacks its recorded address ${address}`);
  }
  for (const address of inside.addresses) {
    if (!recorded.has(address) && !isLinkLocal(address))
      found.push(`${ifName} has address ${address}, which is not recorded`);
  }
  return found;
}

function compareOutside({ attachment, expectation, bridges }: Comparison): readonly string[] {
  const found: string[] = [];
  for (const { name, mac } of expectation?.hostLinks ?? []) {
    // The bridge is the network's, which says what is wrong with it once.
    if (bridges.includes(name)) continue;
    const link = attachment.outside.find((candidate) => candidate.name === name);
    if (link === undefined) found.push(`the host has no link ${name}, which is recorded`);
    else if (mac !== "" && mac !== link.mac) {
      found.push(`${name} has MAC ${link.mac}, recorded is ${mac}`);
    }
  }
  for (const { name, up, master, kind } of attachment.outside) {
    if (!up) found.push(`${name} is down in the host`);
    if (kind === "veth" && bridges.length > 0 && !bridges.includes(master)) {
      found.push(`${name} is no port of ${bridges.join(" or ")}`);
    }
  }
  return found;
}

function compareRecords({ attachment, expectation, hasLeases, masqueraded }: Comparison): readonly string[] {
  const found: string[] = [];
  const recorded = (expectation?.addresses ?? []).map(withoutPrefix);
  if (hasLeases) {
    for (const ip of recorded) if (!attachment.leases.includes(ip)) found.push(`no lease for ${ip}`);
    for (const ip of attachment.leases)
      if (!recorded.includes(ip)) found.push(`a lease for ${ip}, which is not its address`);
  }
  for (const address of masqueraded ?? []) {
    const ip = withoutPrefix(address);
    const isThere = attachment.elements.some(
      (text) => /^masquerade[46] /.test(text) && text.includes(` ${ip} `),
    );
    if (!isThere) found.push(`${ip} is not masqueraded, though its record says so`);
  }
  return found;
}

const withoutPrefix = (address: string) => address.replace(/\/\d+$/, "");
const isLinkLocal = (address: string) => /^fe[89ab]/i.test(address);
