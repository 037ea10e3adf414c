/** One set, map or chain of a ruleset as nft prints it: what stands in its braces. */
interface Block {
  /** `map`, `set`, `chain` or `table`. */
  readonly kind: string;
  readonly name: string;
  /** The whole text with its braces, as it was printed. */
  readonly text: string;
  /** Of a set or map. */
  readonly elements: readonly string[];
  /** Lines of a chain but its hook and policy. */
  readonly rules: readonly string[];
}

interface Table {
  readonly family: string;
  readonly name: string;
  readonly text: string;
  readonly blocks: readonly Block[];
}

/**
 * What has to be told nft to come from one ruleset to another that has more: whole tables, and in those that are there
 * already chains, sets, rules and elements. Pure.
 * @param before and `after`, as `nft -s list ruleset` prints them
 * @param options.assumed name of tables that count as loaded, without elements
 */
export function nftCommands(
  before: string,
  after: string,
  options: { readonly assumed?: string } = {},
): readonly string[] {
  const earlier = new Map(parseRuleset(before).map((table) => [`${table.family} ${table.name}`, table]));
  return parseRuleset(after).flatMap((table) => {
    const present = earlier.get(`${table.family} ${table.name}`);
    if (present !== undefined) return additions(present, table);
    return table.name === options.assumed ? additions(withoutElements(table), table) : [table.text];
  });
}

/** Names of the tables that one ruleset has more than another. */
export function newTables(before: string, after: string): readonly string[] {
  const known = new Set(parseRuleset(before).map(({ family, name }) => `${family} ${name}`));
  return parseRuleset(after)
    .map(({ family, name }) => `${family} ${name}`)
    .filter((each) => !known.has(each));
}

function withoutElements(table: Table): Table {
  return { ...table, blocks: table.blocks.map((block) => ({ ...block, elements: [] })) };
}

function additions(before: Table, after: Table): readonly string[] {
  const where = `${after.family} ${after.name}`;
  return after.blocks.flatMap((block) => {
    const present = before.blocks.find(({ kind, name }) => kind === block.kind && name === block.name);
    if (present === undefined) return [`table ${where} {\n${block.text}\n}`];
    const known = new Set([...present.elements, ...present.rules]);
    const elements = block.elements.filter((each) => !known.has(each));
    const rules = block.rules.filter((each) => !known.has(each));
    return [
      ...(elements.length === 0 ? [] : [`add element ${where} ${block.name} { ${elements.join(", ")} }`]),
      ...rules.map((rule) => `add rule ${where} ${block.name} ${rule}`),
    ];
  });
}

function parseRuleset(text: string): readonly Table[] {
  const tables: Table[] = [];
  for (const [header, body] of blocksOf(text)) {
    const [, family = "", name = ""] = /^table (\S+) (\S+) \{$/.exec(header.trim()) ?? [];
    if (family !== "") {
      tables.push({ family, name, text: [header, ...body, "}"].join("\n"), blocks: parseTable(body) });
    }
  }
  return tables;
}

function parseTable(lines: readonly string[]): readonly Block[] {
  return blocksOf(lines.join("\n")).flatMap(([header, body]): Block[] => {
    const [, kind = "", name = ""] = /^(\w+) (\S+) \{$/.exec(header.trim()) ?? [];
    if (kind === "") return [];
    const isChain = kind === "chain";
    const text = [header, ...body, "\t}"].join("\n");
    const rules = body
      .map((line) => line.trim())
      .filter((line) => line !== "" && !/^(type|policy|comment) /.test(line));
    return [
      { kind, name, text, elements: isChain ? [] : elementsOf(body.join("\n")), rules: isChain ? rules : [] },
    ];
  });
}

/** Blocks by indentation: nft closes each with a brace below the first letter of its header. */
function blocksOf(text: string): readonly (readonly [header: string, body: readonly string[]])[] {
  const found: [string, string[]][] = [];
  let open: { readonly closing: string; readonly body: string[] } | undefined;
  for (const line of text.split("\n")) {
    if (open === undefined) {
      if (!line.endsWith("{")) continue;
      const body: string[] = [];
      open = { closing: `${/^\s*/.exec(line)?.[0] ?? ""}}`, body };
      found.push([line, body]);
    } else if (line === open.closing) open = undefined;
    else open.body.push(line);
  }
  return found;
}

/** What stands between the braces of `elements = { … }`, at the commas that are in no quotes and no braces. */
function elementsOf(body: string): readonly string[] {
  const start = /\belements = \{/.exec(body);
  if (start === null) return [];
  const found: string[] = [];
  let [depth, isQuoted, current] = [0, false, ""];
  for (const letter of body.slice(start.index + start[0].length)) {
    if (letter === '"') isQuoted = !isQuoted;
    if (!isQuoted && letter === "{") depth += 1;
    if (!isQuoted && letter === "}") {
      if (depth === 0) break;
      depth -= 1;
    }
    if (!isQuoted && depth === 0 && letter === ",") {
      found.push(current);
      current = "";
    } else current += letter;
  }
  return [...found, current].map((each) => each.replace(/\s+/g, " ").trim()).filter((each) => each !== "");
}
