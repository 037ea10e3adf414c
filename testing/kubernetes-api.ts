import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { parseAllDocuments } from "yaml";

interface StoredObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: Metadata;
  readonly spec?: Readonly<Record<string, unknown>>;
}

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly resourceVersion?: string;
  readonly uid?: string;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface HistoryEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly collection: string;
  readonly object: StoredObject;
  readonly revision: number;
}

interface Watcher {
  readonly collection: string;
  readonly response: ServerResponse;
  /** What is older does not come. */
  readonly from: number;
}

/** A rule of a Role. */
interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** The part of a CustomResourceDefinition's schema that ours has. */
interface SpecSchema {
  readonly required: readonly string[];
  readonly properties: Readonly<Record<string, { readonly type: "string"; readonly maxLength?: number }>>;
}

interface Manifest {
  readonly rules?: readonly Rule[];
  readonly spec?: {
    readonly versions?: readonly {
      readonly schema: { readonly openAPIV3Schema: { readonly properties: { readonly spec: SpecSchema } } };
    }[];
  };
}

const documents = (file: string) =>
  parseAllDocuments(readFileSync(join(import.meta.dirname, "../deploy/kubernetes", file), "utf8")).map(
    (each) => each.toJS() as Manifest,
  );

/**
 * As much of a Kubernetes API server as an engine meets, in this process: the namespace, the custom resource and the
 * rights of deploy/kubernetes, resource versions, 409 for what was changed meanwhile, updates that change nothing,
 * deletion with preconditions, label selectors, lists in pages of one revision, watches with bookmarks, 410 Gone for what
 * was forgotten, silence for a version that is yet to come, tokens, and Retry-After. A fake, for where no real one is
 * (testing/kubernetes-server.ts): the engine's tests ask both the same, and its answers are those of 1.20.
 */
export class TestKubernetesApi {
  readonly #objects = new Map<string, Map<string, StoredObject>>();
  readonly #server: Server;
  readonly #watchers = new Set<Watcher>();
  readonly #pages = new Map<string, { readonly items: readonly StoredObject[]; readonly revision: number }>();
  #history: HistoryEvent[] = [];
  #revision = 100;
  #compactedTo = 0;
  #busy = 0;
  #lost = 0;
  #forbidden = 0;
  #isInstalled = true;
  /** Of the bearers that are let in; everybody where there is none. */
  readonly tokens = new Set<string>();
  readonly #rules = documents("rbac.yaml").flatMap(({ rules }) => rules ?? []);
  readonly #schema = entrySchema();
  #bookmarks: NodeJS.Timeout | undefined;

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#serve(request, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : undefined);
      });
    });
  }

  static async start(): Promise<TestKubernetesApi> {
    const api = new TestKubernetesApi();
    await new Promise<void>((resolve) => api.#server.listen(0, "127.0.0.1", resolve));
    api.#bookmarks = setInterval(() => api.#bookmark(), 200);
    return api;
  }

  get url(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" && address ? address.port : 0}`;
  }

  /** The next so many requests are told to come again in a second. */
  beBusy(count: number): void {
    this.#busy = count;
  }

  /** The next so many writes are done, and their answers lost. */
  loseAnswers(count: number): void {
    this.#lost = count;
  }

  /** Forgets all history up to now. */
  compact(): void {
    this.#compactedTo = this.#revision;
    this.#history = [];
    this.#pages.clear();
  }

  /** As one that was started again: history is forgotten, watches have ended, and for a moment nobody has any right. */
  restart(): void {
    this.compact();
    this.endWatches();
    this.#forbidden = 2;
  }

  endWatches(): void {
    for (const { response } of this.#watchers) response.end();
    this.#watchers.clear();
  }

  /** Takes the custom resource definition away, and with it, one after the other, what is of it. */
  uninstall(): void {
    for (const [collection, objects] of this.#objects)
      if (collection.endsWith("/entries"))
        for (const [name, object] of objects) {
          objects.delete(name);
          this.#happen("DELETED", collection, object);
        }
    this.#isInstalled = false;
    this.endWatches();
  }

  /** Puts it back: nothing is there, and nobody knows what was. */
  install(): void {
    this.#isInstalled = true;
    this.compact();
  }

  /** Makes a copy of all there is. @returns what restores it from that */
  copy(): () => void {
    const objects = [...this.#objects].map(([collection, each]) => [collection, new Map(each)] as const);
    const revision = this.#revision;
    return () => {
      this.#objects.clear();
      for (const [collection, each] of objects) this.#objects.set(collection, each);
      this.#revision = revision;
      this.restart();
    };
  }

  async stop(): Promise<void> {
    clearInterval(this.#bookmarks);
    this.endWatches();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://localhost");
    let text = "";
    request.setEncoding("utf8");
    for await (const piece of request) text += String(piece);
    if (this.#busy > 0) {
      this.#busy--;
      const headers = { "content-type": "text/plain; charset=utf-8", "retry-after": "1" };
      response.writeHead(429, headers).end("Too many requests, please try again later.\n");
      return;
    }
    const bearer = request.headers.authorization?.replace("Bearer ", "") ?? "";
    if (this.tokens.size > 0 && !this.tokens.has(bearer)) {
      sendStatus(response, 401, "Unauthorized", "Unauthorized");
      return;
    }
    const pattern = /^(\/apis\/([^/]+)\/([^/]+)\/namespaces\/([^/]+)\/([^/]+))(?:\/([^/]+))?$/;
    const [, collection = "", group = "", version, namespace = "", resource = "", name] =
      pattern.exec(url.pathname) ?? [];
    const isList = request.method === "GET" && name === undefined;
    const verb = isList ? (isWatch(url) ? "watch" : "list") : verbs[request.method ?? ""];
    const isAllowed =
      namespace === ownNamespace &&
      this.#rules.some(
        (rule) =>
          rule.apiGroups.includes(group) &&
          rule.resources.includes(resource) &&
          rule.verbs.some((each) => each === verb),
      );
    if (!isAllowed || this.#forbidden > 0) {
      if (isAllowed) this.#forbidden--;
      const message = `${resource}.${group} is forbidden: cannot ${verb} resource in the namespace "${namespace}"`;
      sendStatus(response, 403, "Forbidden", message);
      return;
    }
    if (version !== "v1" || (resource === "entries" && !this.#isInstalled)) {
      response.writeHead(404, { "content-type": "text/plain" }).end("404 page not found\n");
      return;
    }
    const body = text === "" ? undefined : (JSON.parse(text) as StoredObject);
    if (this.#lost > 0 && request.method !== "GET") {
      this.#lost--;
      this.#answer(request.method ?? "", { collection, name, body, url }, new Discarding());
      response.destroy();
      return;
    }
    this.#answer(request.method ?? "", { collection, name, body, url }, response);
  }

  #answer(method: string, asked: Asked, response: ServerResponse | Discarding): void {
    const { collection, name, url } = asked;
    const objects = this.#objects.get(collection) ?? new Map<string, StoredObject>();
    this.#objects.set(collection, objects);
    if (method === "GET" && name === undefined) {
      if (isWatch(url)) this.#watch(collection, url, response as ServerResponse);
      else this.#list(objects, url, response);
    } else if (method === "GET") {
      const object = objects.get(name ?? "");
      if (object) send(response, 200, object);
      else sendStatus(response, 404, "NotFound", `${name ?? ""} not found`);
    } else {
      this.#write(method, asked, objects, response);
    }
  }

  #write(
    method: string,
    { collection, name, body }: Asked,
    objects: Map<string, StoredObject>,
    response: ServerResponse | Discarding,
  ): void {
    const key = name ?? body?.metadata.name ?? "";
    const present = objects.get(key);
    const refusal = method === "DELETE" ? undefined : this.#invalidity(body);
    if (name !== undefined && method === "PUT" && body?.metadata.name !== name) {
      const message = `the name of the object (${body?.metadata.name}) does not match the name on the URL (${name})`;
      sendStatus(response, 400, "BadRequest", message);
    } else if (method === "POST") {
      if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(key) || key.length > 253)
        sendStatus(response, 422, "Invalid", `metadata.name: Invalid value: "${key}"`);
      else if (refusal !== undefined) sendStatus(response, 422, "Invalid", refusal);
      else if (present) sendStatus(response, 409, "AlreadyExists", `"${key}" already exists`);
      else send(response, 201, this.#store("ADDED", collection, objects, body as StoredObject));
    } else if (!present) {
      sendStatus(response, 404, "NotFound", `"${key}" not found`);
    } else if (method === "PUT") {
      const { resourceVersion } = body?.metadata ?? {};
      if (resourceVersion === undefined)
        sendStatus(response, 422, "Invalid", "metadata.resourceVersion: must be specified for an update");
      else if (resourceVersion !== present.metadata.resourceVersion)
        sendStatus(response, 409, "Conflict", `"${key}": the object has been modified`);
      else if (refusal !== undefined) sendStatus(response, 422, "Invalid", refusal);
      else if (isSame(present, body as StoredObject)) send(response, 200, present);
      else send(response, 200, this.#store("MODIFIED", collection, objects, body as StoredObject));
    } else if (method === "DELETE") {
      const { preconditions } = (body ?? {}) as { preconditions?: { resourceVersion?: string } };
      const wanted = preconditions?.resourceVersion;
      if (wanted !== undefined && wanted !== present.metadata.resourceVersion)
        sendStatus(response, 409, "Conflict", `Precondition failed: ${wanted} is not the resource version`);
      else {
        objects.delete(key);
        this.#happen("DELETED", collection, present);
        send(response, 200, { kind: "Status", status: "Success" });
      }
    } else sendStatus(response, 405, "MethodNotAllowed", method);
  }

  #store(
    type: "ADDED" | "MODIFIED",
    collection: string,
    objects: Map<string, StoredObject>,
    object: StoredObject,
  ): StoredObject {
    const stored = this.#happen(type, collection, object);
    objects.set(object.metadata.name, stored);
    return stored;
  }

  /** Every event carries the version at which it happened, a deletion too. */
  #happen(type: HistoryEvent["type"], collection: string, object: StoredObject): StoredObject {
    const revision = ++this.#revision;
    const before = this.#objects.get(collection)?.get(object.metadata.name)?.metadata;
    const { uid = randomUUID(), creationTimestamp = new Date().toISOString() } = before ?? object.metadata;
    const own = { uid, creationTimestamp, namespace: ownNamespace, resourceVersion: String(revision) };
    const stored = { ...object, metadata: { ...object.metadata, ...own } };
    const event = { type, collection, object: stored, revision };
    this.#history.push(event);
    for (const watcher of this.#watchers)
      if (watcher.collection === collection && revision > watcher.from)
        watcher.response.write(`${JSON.stringify({ type, object: stored })}\n`);
    return stored;
  }

  #list(objects: Map<string, StoredObject>, url: URL, response: ServerResponse | Discarding): void {
    const token = url.searchParams.get("continue");
    const limit = Number(url.searchParams.get("limit") ?? "0") || Number.POSITIVE_INFINITY;
    const selector = url.searchParams.get("labelSelector");
    const page = token === null ? undefined : this.#pages.get(token);
    if (token !== null && !page) {
      sendStatus(response, 410, "Expired", "The provided continue parameter is too old");
      return;
    }
    const all = page?.items ?? [...objects.values()].filter((each) => isSelected(each, selector));
    const revision = page?.revision ?? this.#revision;
    const metadata: { resourceVersion: string; continue?: string } = { resourceVersion: String(revision) };
    if (all.length > limit) {
      const next = `${revision}-${this.#pages.size}`;
      this.#pages.set(next, { items: all.slice(limit), revision });
      metadata.continue = next;
    }
    send(response, 200, { kind: "List", metadata, items: all.slice(0, limit) });
  }

  #watch(collection: string, url: URL, response: ServerResponse): void {
    const from = Number(url.searchParams.get("resourceVersion") ?? "0");
    response.writeHead(200, { "content-type": "application/json" });
    if (from < this.#compactedTo) {
      const object = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    response.flushHeaders();
    for (const { type, object, revision, collection: of } of this.#history)
      if (of === collection && revision > from) response.write(`${JSON.stringify({ type, object })}\n`);
    const watcher = { collection, response, from };
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
  }

  #bookmark(): void {
    const object = { kind: "Entry", metadata: { resourceVersion: String(this.#revision) } };
    for (const { response, from } of this.#watchers)
      if (from <= this.#revision) response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
  }

  /** What the schema of our resource has against it. Others are not looked at. */
  #invalidity(object: StoredObject | undefined): string | undefined {
    if (object?.kind !== "Entry") return undefined;
    const { spec = {} } = object;
    for (const [field, { type, maxLength = Number.POSITIVE_INFINITY }] of Object.entries(
      this.#schema.properties,
    )) {
      const value = spec[field];
      if (value === undefined && this.#schema.required.includes(field))
        return `spec.${field}: Required value`;
      // oxlint-disable-next-line typescript/no-base-to-string -- as the server puts it
      if (typeof value !== type)
        return `spec.${field}: Invalid value: ${String(value)}: must be of type ${type}`;
      if ((value as string).length > maxLength)
        return `spec.${field}: Invalid value: "${value as string}": should be at most ${maxLength} chars long`;
    }
    return undefined;
  }
}

const ownNamespace = "netctl";
const verbs: Readonly<Record<string, string>> = {
  GET: "get",
  POST: "create",
  PUT: "update",
  DELETE: "delete",
};

function isWatch({ searchParams }: URL): boolean {
  return searchParams.get("watch") === "1";
}

function entrySchema(): SpecSchema {
  const found = documents("crd.yaml")
    .flatMap(({ spec }) => spec?.versions ?? [])
    .map(({ schema }) => schema.openAPIV3Schema.properties.spec)[0];
  if (!found) throw new Error("crd.yaml has no schema");
  return found;
}

/** Whether an update changes nothing that somebody may set. */
function isSame(present: StoredObject, update: StoredObject): boolean {
  const settable = ({ metadata: { labels, annotations }, spec }: StoredObject) => ({
    labels,
    annotations,
    spec,
  });
  return isDeepStrictEqual(settable(present), settable(update));
}

interface Asked {
  readonly collection: string;
  readonly name: string | undefined;
  readonly body: StoredObject | undefined;
  readonly url: URL;
}

/** Takes an answer that nobody gets. */
class Discarding {
  writeHead(): this {
    return this;
  }

  end(): void {
    // Nobody is there.
  }
}

function isSelected({ metadata }: StoredObject, selector: string | null): boolean {
  if (selector === null) return true;
  const [key = "", value] = selector.split("=");
  const label = metadata.labels?.[key];
  return label !== undefined && (value === undefined || label === value);
}

function send(response: ServerResponse | Discarding, code: number, object: object): void {
  response.writeHead(code, { "content-type": "application/json" });
  response.end(JSON.stringify(object));
}

function sendStatus(
  response: ServerResponse | Discarding,
  code: number,
  reason: string,
  message: string,
): void {
  send(response, code, { kind: "Status", status: "Failure", code, reason, message });
}
