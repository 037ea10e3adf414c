import { UsageFailure } from "./failure.ts";

/** Values that a template is applied to: plain JSON. */
export type TemplateValue =
  | string
  | number
  | boolean
  | null
  | undefined
  | readonly TemplateValue[]
  | { readonly [key: string]: TemplateValue };

/** A template that was understood: writes one value. */
export type Template = (value: TemplateValue) => string;

/**
 * Understands the part of Go's templates that people write after Docker's `--format`: fields (`{{.Name}}`,
 * `{{.IPAM.Config}}`), `{{json .Labels}}`, `{{len .Containers}}`, `{{index .Labels "tier"}}`, `{{upper .Name}}`,
 * `{{lower .Name}}`, `{{join .Subnets ", "}}`, `{{range .IPAM.Config}}…{{else}}…{{end}}`,
 * `{{(index .IPAM.Config 0).Subnet}}`, `{{if eq .Driver "bridge"}}`, `{{range $key, $value := .Containers}}`, `{{if .Internal}}…{{else}}…{{end}}`, `{{"text"}}`. Functions can be put
 * behind a `|`.
 * @throws {UsageFailure} for anything else
 * @see https://pkg.go.dev/text/template
 */
export function parseTemplate(text: string): Template {
  const reader = new Reader(text);
  const nodes = reader.readUntil([]);
  return (value) => write(nodes, { dot: value, variables: new Map([["$", value]]) });
}

/** Words of a shell: `\t` and `\n` arrive as two characters. Inside of an action they are Go's to read. */
export function unescapeFormat(text: string): string {
  return text
    .split(/(\{\{.*?\}\})/s)
    .map((part, index) => (index % 2 === 0 ? part.replaceAll("\\t", "\t").replaceAll("\\n", "\n") : part))
    .join("");
}

interface Scope {
  readonly dot: TemplateValue;
  readonly variables: ReadonlyMap<string, TemplateValue>;
}

type Expression = (scope: Scope) => TemplateValue;

type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "value"; readonly expression: Expression }
  | {
      readonly kind: "range" | "if";
      readonly expression: Expression;
      readonly names: readonly string[];
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    };

class Reader {
  readonly #source: string;
  /** Text and the insides of actions by turns. */
  readonly #parts: string[];
  #at = 0;
  /** The word that ended what was read last. */
  #ended = "";

  constructor(source: string) {
    this.#source = source;
    this.#parts = source
      .replaceAll(/\s*\{\{-\s/g, "{{")
      .replaceAll(/\s-\}\}\s*/g, "}}")
      .split(/\{\{(.*?)\}\}/s);
  }

  readUntil(ends: readonly string[]): readonly Node[] {
    const nodes: Node[] = [];
    while (this.#at < this.#parts.length) {
      const index = this.#at++;
      const part = this.#parts[index] ?? "";
      if (index % 2 === 0) {
        if (/\{\{|\}\}/.test(part)) throw this.#fail("an action is not closed");
        if (part !== "") nodes.push({ kind: "text", text: part });
        continue;
      }
      const action = part.trim();
      if (ends.includes(action)) {
        this.#ended = action;
        return nodes;
      }
      nodes.push(this.#readAction(action));
    }
    if (ends.length > 0) throw this.#fail(`{{${ends.at(-1)}}} is missing`);
    return nodes;
  }

  #readAction(action: string): Node {
    const [, word, rest = ""] = /^(range|if)\s+(.+)$/s.exec(action) ?? [];
    if (word !== "range" && word !== "if") return { kind: "value", expression: this.#parsePipeline(action) };
    const [, list, value = rest] = /^((?:\$\w+\s*,\s*)?\$\w+)\s*:=\s*(.+)$/s.exec(rest) ?? [];
    const names = list === undefined ? [] : list.split(",").map((name) => name.trim());
    const expression = this.#parsePipeline(value);
    const body = this.readUntil(["else", "end"]);
    const otherwise = this.#ended === "else" ? this.readUntil(["end"]) : [];
    return { kind: word, expression, names, body, otherwise };
  }

  #parsePipeline(text: string): Expression {
    const words = text.match(/"(?:[^"\\]|\\.)*"|`[^`]*`|\||\(|\)(?:\.\w+)*|[^\s|()]+/g) ?? [];
    const rest = [...words];
    const expression = this.#readPipeline(rest);
    if (rest.length > 0) throw this.#fail(`there is no ( before ${rest[0]}`);
    return expression;
  }

  /** Takes words up to the end, or to a `)`, which it leaves. */
  #readPipeline(words: string[]): Expression {
    let before: Expression | undefined;
    for (;;) {
      const stage: (string | Expression)[] = [];
      while (words[0] !== undefined && words[0] !== "|" && !words[0].startsWith(")")) {
        const word = words.shift() ?? "";
        stage.push(word === "(" ? this.#readParentheses(words) : word);
      }
      before = this.#parseStage(stage, before);
      if (words[0] !== "|") return before;
      words.shift();
    }
  }

  /** `(index .IPAM.Config 0).Subnet`, behind its `(`. */
  #readParentheses(words: string[]): Expression {
    const inner = this.#readPipeline(words);
    const close = words.shift();
    if (close === undefined) throw this.#fail("a ( is not closed");
    const keys = close.split(".").slice(1);
    return (scope) => keys.reduce<TemplateValue>((value, key) => this.#fieldOf(value, key), inner(scope));
  }

  #parseStage(words: readonly (string | Expression)[], piped: Expression | undefined): Expression {
    const [first = "", ...rest] = words;
    const call = typeof first === "string" && Object.hasOwn(functions, first) ? functions[first] : undefined;
    if (call === undefined) {
      if (rest.length > 0 || piped !== undefined || first === "") {
        const shown = words.map((word) => (typeof word === "string" ? word : "(…)")).join(" ");
        throw this.#fail(`${shown || "an empty action"} is not understood`);
      }
      return this.#parseOperand(first);
    }
    const operands = rest.map((word) => this.#parseOperand(word));
    const all = piped === undefined ? operands : [...operands, piped];
    if (all.length === 0) throw this.#fail(`${String(first)} needs a value`);
    return (scope) => call(all.map((operand) => operand(scope)));
  }

  #parseOperand(word: string | Expression): Expression {
    if (typeof word !== "string") return word;
    if (/^["`]/.test(word)) {
      const text = word.startsWith("`") ? word.slice(1, -1) : this.#parseText(word);
      return () => text;
    }
    if (/^-?\d+$/.test(word)) return () => Number(word);
    if (word === "true" || word === "false") return () => word === "true";
    const [, variable = "", path = ""] = /^(\$\w*)?((?:\.\w+)*|\.)$/.exec(word) ?? [];
    if (variable === "" && path === "") throw this.#fail(`${word} is not understood`);
    const keys = path.split(".").filter((key) => key !== "");
    return ({ dot, variables }) =>
      keys.reduce<TemplateValue>(
        (value, key) => this.#fieldOf(value, key),
        variable === "" ? dot : variables.get(variable),
      );
  }

  #parseText(word: string): string {
    try {
      return String(JSON.parse(word));
    } catch {
      throw this.#fail(`${word} is no text`);
    }
  }

  #fieldOf(value: TemplateValue, key: string): TemplateValue {
    if (!isRecord(value)) throw this.#fail(`there is no field ${key}`);
    if (Object.hasOwn(value, key)) return value[key];
    throw this.#fail(`there is no field ${key}; there are ${Object.keys(value).join(", ")}`);
  }

  #fail(why: string): UsageFailure {
    return new UsageFailure(`Cannot use --format ${JSON.stringify(this.#source)}: ${why}`);
  }
}

const functions: Readonly<Record<string, (values: readonly TemplateValue[]) => TemplateValue>> = {
  json: ([value]) => JSON.stringify(value ?? null),
  len: ([value]) => (typeof value === "string" ? value.length : entriesOf(value).length),
  index: ([value, ...keys]) => keys.reduce<TemplateValue>(indexOf, value),
  join: ([value, separator]) =>
    entriesOf(value)
      .map(([, each]) => textOf(each))
      .join(textOf(separator)),
  upper: ([value]) => textOf(value).toUpperCase(),
  lower: ([value]) => textOf(value).toLowerCase(),
  title: ([value]) => textOf(value).replaceAll(/(^|\s)\S/g, (letter) => letter.toUpperCase()),
  split: ([value, separator]) => textOf(value).split(textOf(separator)),
  truncate: ([value, length]) => textOf(value).slice(0, Number(length)),
  eq: ([value, ...others]) => others.some((other) => other === value),
  ne: ([value, other]) => value !== other,
  not: ([value]) => !isTrue(value),
  and: (values) => values.find((value) => !isTrue(value)) ?? values.at(-1),
  or: (values) => values.find(isTrue) ?? values.at(-1),
  println: (values) => `${values.map(textOf).join(" ")}\n`,
};

function write(nodes: readonly Node[], scope: Scope): string {
  return nodes.map((node) => writeNode(node, scope)).join("");
}

function writeNode(node: Node, scope: Scope): string {
  if (node.kind === "text") return node.text;
  const value = node.expression(scope);
  if (node.kind === "value") return textOf(value);
  const isEmpty = !isTrue(value);
  if (isEmpty) return write(node.otherwise, scope);
  if (node.kind === "if") return write(node.body, scope);
  return entriesOf(value)
    .map(([key, each]) => {
      const [first, second] = node.names;
      const variables = new Map(scope.variables);
      if (first !== undefined) variables.set(first, second === undefined ? each : key);
      if (second !== undefined) variables.set(second, each);
      return write(node.body, { dot: each, variables });
    })
    .join("");
}

function isRecord(value: TemplateValue): value is { readonly [key: string]: TemplateValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function entriesOf(value: TemplateValue): readonly (readonly [key: string | number, value: TemplateValue])[] {
  if (Array.isArray(value)) return (value as readonly TemplateValue[]).map((each, index) => [index, each]);
  // By key, as Go has it.
  return isRecord(value) ? Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)) : [];
}

function indexOf(value: TemplateValue, key: TemplateValue): TemplateValue {
  return entriesOf(value).find(([each]) => each === key)?.[1] ?? "";
}

function isTrue(value: TemplateValue): boolean {
  return typeof value === "object" ? entriesOf(value).length > 0 : Boolean(value);
}

/** As Go prints values: `map[a:1 b:2]`, `[a b]`. */
function textOf(value: TemplateValue): string {
  if (value === null || value === undefined) return "";
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${(value as readonly TemplateValue[]).map(textOf).join(" ")}]`;
  if (isRecord(value))
    return `map[${entriesOf(value)
      .map(([key, each]) => `${key}:${textOf(each)}`)
      .join(" ")}]`;
  return "";
}
