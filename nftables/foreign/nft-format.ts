type Json = Readonly<Record<string, unknown>>;

/** A statement of `nft -j` near to what `nft list` prints; "" for one that only counts. For people. */
export function formatStatement(statement: Json): string {
  const [kind = "", body] = Object.entries(statement)[0] ?? [];
  if (kind === "counter") return "";
  if (kind === "match" && isObject(body)) {
    const op = body["op"] === "==" || body["op"] === "in" ? "" : `${String(body["op"])} `;
    return `${formatValue(body["left"])} ${op}${formatValue(body["right"])}`;
  }
  if (kind === "vmap" && isObject(body)) return `${formatValue(body["key"])} vmap …`;
  if (kind === "xt" && isObject(body)) return `xt ${String(body["type"])} ${String(body["name"])}`;
  if (kind === "reject" && isObject(body)) return "reject";
  if ((kind === "jump" || kind === "goto") && isObject(body)) return `${kind} ${String(body["target"])}`;
  return kind;
}

function formatValue(value: unknown): string {
  if (Array.isArray(value)) return value.map(formatValue).join(",");
  if (!isObject(value)) return typeof value === "string" ? value : JSON.stringify(value);
  const { meta, ct, payload, prefix, range, set, fib } = value;
  if (isObject(meta)) return `meta ${String(meta["key"])}`.replace(/^meta (?=[io]if)/u, "");
  if (isObject(ct)) return `ct ${String(ct["key"])}`;
  if (isObject(payload)) return `${String(payload["protocol"])} ${String(payload["field"])}`;
  if (isObject(prefix)) return `${String(prefix["addr"])}/${String(prefix["len"])}`;
  if (Array.isArray(range)) return range.map(formatValue).join("-");
  if (Array.isArray(set)) return `{ ${set.map(formatValue).join(", ")} }`;
  if (isObject(fib)) return `fib ${formatValue(fib["flags"])} ${String(fib["result"])}`;
  return JSON.stringify(value);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
