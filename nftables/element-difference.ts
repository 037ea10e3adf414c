import { definitionOf, formatElement, type Operation, type PresentElement } from "./element.ts";
import { sameOwner } from "./owner.ts";

/** What stands there means what was asked for, whoever put it there. */
export function sameValue(operation: Operation, present: PresentElement): boolean {
  const { value } = definitionOf(operation.set);
  if (!value) return true;
  const asked = formatElement({ set: operation.set, key: present.key, value: valueOf(operation) });
  return asked === formatElement({ set: operation.set, key: present.key, value: present.value });
}

function valueOf(operation: Operation): readonly unknown[] | undefined {
  return "value" in operation ? operation.value : undefined;
}

/** What is not as asked, in words; undefined where all is, the owner too. */
export function difference(operation: Operation, present: PresentElement | undefined): string | undefined {
  const element = formatElement(operation);
  if (!present) return `${element} is missing`;
  const isOwned = definitionOf(operation.set).life === "attachment";
  if (isOwned && !sameOwner(operation.owner ?? "", present.comment)) {
    const holder = present.owner
      ? `container ${JSON.stringify(present.owner.containerId)}`
      : JSON.stringify(present.comment);
    return `${element} belongs to ${holder}`;
  }
  if (sameValue(operation, present)) return undefined;
  return `${element} is there as ${formatElement({ ...operation, key: present.key, value: present.value })}`;
}
