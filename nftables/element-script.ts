import { definitionOf, formatFields, type Operation, type SetId } from "./element.ts";
import { tableName } from "./set-definition.ts";

/** So that no line is of a length that nobody can read, or that nft's parser has to hold at once. */
const elementsPerCommand = 500;

/**
 * Commands in nft's language that add these elements, to stand after the skeleton in one transaction. What nft can't
 * take in one transaction (subnets that overlap) must not be among them.
 */
export function elementScript(operations: readonly Operation[]): string {
  const bySet = new Map<SetId, string[]>();
  for (const operation of operations) {
    const texts = bySet.get(operation.set) ?? [];
    texts.push(elementText(operation));
    bySet.set(operation.set, texts);
  }
  const lines: string[] = [];
  for (const [set, texts] of bySet) {
    const { family, name } = definitionOf(set);
    for (let at = 0; at < texts.length; at += elementsPerCommand) {
      const piece = texts.slice(at, at + elementsPerCommand);
      lines.push(`add element ${family} ${tableName} ${name} { ${piece.join(",\n")} }`);
    }
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** `tcp . 8080 comment "5f0c… mynet eth0 3c9a…" : 10.1.0.2 . 80` */
function elementText(operation: Operation): string {
  const { key, value } = definitionOf(operation.set);
  const comment = operation.owner === undefined ? "" : ` comment "${operation.owner}"`;
  const data = value && "value" in operation ? ` : ${formatFields(value, operation.value)}` : "";
  return `${formatFields(key, operation.key)}${comment}${data}`;
}
