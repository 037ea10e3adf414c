import { UsageFailure } from "#netctl/failure.ts";

/** `$$`, `$NAME`, `${NAME}` and `${NAME<operator>WORD}`, whose word may hold the same again. */
const start = /\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(:?[-?+])?)/;

/**
 * Puts variables in, as the Compose specification has it ("Interpolation"): `${A}`, `${A:-default}`, `${A-default}`,
 * `${A:?message}`, `${A?message}`, `${A:+instead}`, `${A+instead}`; `$$` is a dollar. A variable that is not set is
 * empty.
 * @throws {UsageFailure} for `?` and for a brace that is not closed
 */
export function interpolate(text: string, variables: Readonly<Record<string, string | undefined>>): string {
  let result = "";
  let rest = text;
  for (;;) {
    const found = start.exec(rest);
    if (found === null) return result + rest;
    result += rest.slice(0, found.index);
    rest = rest.slice(found.index + found[0].length);
    const [, dollar, plain, braced, operator] = found;
    if (dollar !== undefined) result += "$";
    else if (plain !== undefined) result += variables[plain] ?? "";
    else if (braced !== undefined) {
      const end = closingBrace(rest);
      if (end < 0)
        throw new UsageFailure(`Cannot interpolate ${JSON.stringify(text)}: "\${${braced}" is not closed`);
      const word = rest.slice(0, end);
      if (operator === undefined && word !== "")
        throw new UsageFailure(
          `Cannot interpolate ${JSON.stringify(text)}: "\${${braced}${word}}" is no variable`,
        );
      result += valueOf(braced, operator, word, variables);
      rest = rest.slice(end + 1);
    }
  }
}

function valueOf(
  name: string,
  operator: string | undefined,
  word: string,
  variables: Readonly<Record<string, string | undefined>>,
): string {
  const value = variables[name];
  const isGiven =
    operator?.startsWith(":") === true ? value !== undefined && value !== "" : value !== undefined;
  const kind: string | undefined = operator?.at(-1);
  switch (kind) {
    case "-":
      return isGiven ? (value ?? "") : interpolate(word, variables);
    case "+":
      return isGiven ? interpolate(word, variables) : "";
    case "?":
      if (!isGiven)
        throw new UsageFailure(
          `Cannot interpolate \${${name}}: ${interpolate(word, variables) || "it is not set"}`,
        );
      return value ?? "";
    case undefined:
    default:
      return value ?? "";
  }
}

function closingBrace(text: string): number {
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const letter = text[index];
    if (letter === "{") depth += 1;
    if (letter === "}" && depth-- === 0) return index;
  }
  return -1;
}

/** Every text of a value, keys left as they are. */
export function interpolateAll(
  value: unknown,
  variables: Readonly<Record<string, string | undefined>>,
): unknown {
  if (typeof value === "string") return interpolate(value, variables);
  if (Array.isArray(value))
    return (value as readonly unknown[]).map((each) => interpolateAll(each, variables));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, interpolateAll(each, variables)]),
  );
}

/** Lines of a `.env` file: `NAME=VALUE`, quotes around the value, comments. */
export function parseEnvFile(text: string): Readonly<Record<string, string>> {
  const lines = text.split("\n").flatMap((line) => {
    const [, name, value = ""] = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined) return [];
    const [, , quoted] = /^(["'])(.*)\1$/.exec(value) ?? [];
    return [[name, quoted ?? value.replace(/\s+#.*$/, "")] as const];
  });
  return Object.fromEntries(lines);
}
