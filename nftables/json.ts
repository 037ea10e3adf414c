/**
 * What `nft -j list …` prints (libnftables-json(5)), as types. For reading alone: nft 1.0.6 can't read all of
 * its own JSON back. Nothing the kernel has is lost: objects of a kind not named here are kept in `other`, and
 * statements and key values that need no interpretation stay as JSON.
 */
export interface NftListing {
  /** Of the nft that printed it. */
  readonly nftVersion: string;
  readonly tables: readonly NftTable[];
  readonly chains: readonly NftChain[];
  /** Sets and maps. */
  readonly sets: readonly NftSet[];
  readonly rules: readonly NftRule[];
  readonly other: readonly NftObject[];
}

interface InTable {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  /** 0 if nft printed none. */
  readonly handle: number;
}

export interface NftTable {
  readonly family: string;
  readonly name: string;
  readonly handle: number;
  readonly comment?: string;
  /** "dormant", "owner", "persist". */
  readonly flags: readonly string[];
}

export interface NftChain extends InTable {
  /** Present in base chains: those which the kernel calls by itself. */
  readonly base?: {
    readonly type: string;
    readonly hook: string;
    readonly priority: number;
    /** "accept" or "drop". */
    readonly policy: string;
    readonly devices: readonly string[];
  };
  readonly comment?: string;
}

export interface NftSet extends InTable {
  /** nft's type names, one for each field of the key. */
  readonly key: readonly string[];
  /** Of a map: the types of its values, ["verdict"] in a verdict map. */
  readonly value?: readonly string[];
  /** "interval", "timeout", "dynamic", "constant". */
  readonly flags: readonly string[];
  readonly comment?: string;
  readonly elements: readonly NftElement[];
}

export interface NftElement {
  /** One JSON value for each field of the key: text, number, `{"prefix": …}` or `{"range": [a, b]}`. */
  readonly key: readonly unknown[];
  /** Of a map: one JSON value for each field, or one verdict such as `{"jump": {"target": "x"}}`. */
  readonly value?: readonly unknown[];
  readonly comment?: string;
  readonly timeoutSeconds?: number;
  readonly expiresSeconds?: number;
  readonly counter?: NftCounter;
}

export interface NftCounter {
  readonly packets: number;
  readonly bytes: number;
}

export interface NftRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle: number;
  readonly comment?: string;
  /** Statements in order, as JSON. */
  readonly statements: readonly unknown[];
  /** The sum over its counter statements; absent if it has none. */
  readonly counter?: NftCounter;
  /** Where the rule ends, if it always does: "accept", "drop", "masquerade", or "jump" and its target. */
  readonly verdict?: { readonly kind: string; readonly target?: string };
}

/** An object of any other kind (counter, flowtable, ct helper…). */
export interface NftObject {
  readonly kind: string;
  readonly body: unknown;
}

/** Thrown for text that no nft prints. */
export class NftJsonError extends Error {
  constructor(message: string, cause?: unknown) {
    super(`Cannot read the output of nft -j: ${message}`, cause === undefined ? undefined : { cause });
    this.name = "NftJsonError";
  }
}

type Json = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function numberOf(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

/** nft prints one value bare and several as a list. */
function listOf(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

function textsOf(value: unknown): readonly string[] {
  return listOf(value).map((item) => (typeof item === "string" ? item : JSON.stringify(item)));
}

/** `"mark"`, `["ipv4_addr", "inet_service"]`, and in 1.0.6 for a map's value `"ipv4_addr . inet_service"`. */
function typesOf(value: unknown): readonly string[] {
  return typeof value === "string" ? value.split(" . ") : textsOf(value);
}

/** The key with the value `undefined` left out, as exact optional properties want it. */
function optional<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: V };
}

function commentOf(body: Json): { readonly comment?: string } {
  return optional("comment", typeof body["comment"] === "string" ? body["comment"] : undefined);
}

function counterOf(value: unknown): NftCounter | undefined {
  return isObject(value)
    ? { packets: numberOf(value["packets"]), bytes: numberOf(value["bytes"]) }
    : undefined;
}

function inTable(body: Json): InTable {
  return {
    family: textOf(body["family"]),
    table: textOf(body["table"]),
    name: textOf(body["name"]),
    handle: numberOf(body["handle"]),
  };
}

function fieldsOf(value: unknown): readonly unknown[] {
  return isObject(value) && Array.isArray(value["concat"]) ? value["concat"] : [value];
}

/** `"10.1.0.2"`, or `{"elem": {"val": "10.1.0.2", "comment": …}}` where there is more to say. */
function parseKey(json: unknown): NftElement {
  const elem = isObject(json) ? json["elem"] : undefined;
  if (!isObject(elem)) return { key: fieldsOf(json) };
  const seconds = (name: string) => (typeof elem[name] === "number" ? elem[name] : undefined);
  return {
    key: fieldsOf(elem["val"]),
    ...commentOf(elem),
    ...optional("timeoutSeconds", seconds("timeout")),
    ...optional("expiresSeconds", seconds("expires")),
    ...optional("counter", counterOf(elem["counter"])),
  };
}

function parseElement(json: unknown, isMap: boolean): NftElement {
  if (!isMap || !Array.isArray(json)) return parseKey(json);
  const [key, value] = json as readonly unknown[];
  return { ...parseKey(key), value: fieldsOf(value) };
}

function parseSet(body: Json, isMap: boolean): NftSet {
  return {
    ...inTable(body),
    key: typesOf(body["type"]),
    ...optional("value", isMap ? typesOf(body["map"]) : undefined),
    flags: textsOf(body["flags"]),
    ...commentOf(body),
    elements: listOf(body["elem"]).map((element) => parseElement(element, isMap)),
  };
}

function parseChain(body: Json): NftChain {
  const base = {
    type: textOf(body["type"]),
    hook: textOf(body["hook"]),
    priority: numberOf(body["prio"]),
    policy: textOf(body["policy"]) || "accept",
    devices: textsOf(body["dev"]),
  };
  return { ...inTable(body), ...optional("base", base.hook === "" ? undefined : base), ...commentOf(body) };
}

const verdicts = new Set(["accept", "drop", "continue", "return", "jump", "goto", "queue", "reject"]);
const natStatements = new Set(["masquerade", "snat", "dnat", "redirect"]);

function verdictOf(statements: readonly unknown[]): NftRule["verdict"] {
  const last = statements.at(-1);
  if (!isObject(last)) return undefined;
  const kind = Object.keys(last)[0];
  if (kind === undefined || !(verdicts.has(kind) || natStatements.has(kind))) return undefined;
  const body = last[kind];
  const target = isObject(body) && typeof body["target"] === "string" ? body["target"] : undefined;
  return { kind, ...optional("target", target) };
}

function ruleCounter(statements: readonly unknown[]): NftCounter | undefined {
  const counters = statements.flatMap((statement) => {
    const counter = isObject(statement) ? counterOf(statement["counter"]) : undefined;
    return counter ? [counter] : [];
  });
  if (counters.length === 0) return undefined;
  return {
    packets: counters.reduce((sum, counter) => sum + counter.packets, 0),
    bytes: counters.reduce((sum, counter) => sum + counter.bytes, 0),
  };
}

function parseRule(body: Json): NftRule {
  const statements = listOf(body["expr"]);
  return {
    family: textOf(body["family"]),
    table: textOf(body["table"]),
    chain: textOf(body["chain"]),
    handle: numberOf(body["handle"]),
    ...commentOf(body),
    statements,
    ...optional("counter", ruleCounter(statements)),
    ...optional("verdict", verdictOf(statements)),
  };
}

function parseTable(body: Json): NftTable {
  return {
    family: textOf(body["family"]),
    name: textOf(body["name"]),
    handle: numberOf(body["handle"]),
    flags: textsOf(body["flags"]),
    ...commentOf(body),
  };
}

/**
 * Reads the output of `nft -j list ruleset`, `list table …`, `list set …` or any other listing.
 * @throws {NftJsonError} if it is not such output at all; single objects that look odd are kept as they are
 */
export function parseNftJson(text: string): NftListing {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NftJsonError(`${JSON.stringify(text.slice(0, 80))} is not JSON`, cause);
  }
  const objects = isObject(json) ? json["nftables"] : undefined;
  if (!Array.isArray(objects)) throw new NftJsonError('there is no list "nftables"');

  let nftVersion = "";
  const tables: NftTable[] = [];
  const chains: NftChain[] = [];
  const sets: NftSet[] = [];
  const rules: NftRule[] = [];
  const other: NftObject[] = [];
  for (const object of objects as readonly unknown[]) {
    const [kind, body] = isObject(object) ? (Object.entries(object)[0] ?? ["", object]) : ["", object];
    if (!isObject(body)) other.push({ kind, body });
    else if (kind === "metainfo") nftVersion = textOf(body["version"]);
    else if (kind === "table") tables.push(parseTable(body));
    else if (kind === "chain") chains.push(parseChain(body));
    else if (kind === "set" || kind === "map") sets.push(parseSet(body, kind === "map"));
    else if (kind === "rule") rules.push(parseRule(body));
    else other.push({ kind, body });
  }
  return { nftVersion, tables, chains, sets, rules, other };
}
