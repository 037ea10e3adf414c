import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

interface StoredObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly resourceVersion?: string;
    readonly uid?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
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
}

/**
 * As much of a Kubernetes API server as an engine meets, in this process: objects of any resource of a namespace, with
 * resource versions, 409 for what was changed meanwhile, deletion with preconditions, label selectors, lists in pages of
 * one revision, watches with bookmarks, 410 Gone for what was compacted, 504 for a version that is yet to come, tokens,
 * and Retry-After. A fake: no real one can be had here. Behaviour as in "Kubernetes API Concepts" (kubernetes.io) and
 * k8s.io/apiserver's etcd3 store.
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
  /** Of the bearer that is let in; everybody where there is none. */
  token: string | undefined;
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

  /** Forgets all history up to now, and ends the watches. */
  compact(): void {
    this.#compactedTo = this.#revision;
    this.#history = [];
    this.#pages.clear();
    this.endWatches();
  }

  endWatches(): void {
    for (const { response } of this.#watchers) response.end();
    this.#watchers.clear();
  }

  /** As after a restore from an empty copy. */
  wipe(): void {
    this.endWatches();
    this.#objects.clear();
    this.#history = [];
    this.#revision = 1;
    this.#compactedTo = 0;
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
    for await (const piece of request) text += String(piece);
    if (this.#busy > 0) {
      this.#busy--;
      response.setHeader("retry-after", "1");
      sendStatus(response, 429, "TooManyRequests", "too many requests");
      return;
    }
    if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      sendStatus(response, 401, "Unauthorized", "Unauthorized");
      return;
    }
    const found = /^(\/apis\/[^/]+\/[^/]+\/namespaces\/[^/]+\/[^/]+)(?:\/([^/]+))?$/.exec(url.pathname);
    const [, collection, name] = found ?? [];
    if (collection === undefined) {
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
      if (url.searchParams.get("watch") === "1") this.#watch(collection, url, response as ServerResponse);
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
    if (method === "POST") {
      if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(key) || key.length > 253)
        sendStatus(response, 422, "Invalid", `metadata.name: Invalid value: "${key}"`);
      else if (present) sendStatus(response, 409, "AlreadyExists", `"${key}" already exists`);
      else send(response, 201, this.#store("ADDED", collection, objects, body as StoredObject));
    } else if (!present) {
      sendStatus(response, 404, "NotFound", `"${key}" not found`);
    } else if (method === "PUT") {
      const { resourceVersion } = body?.metadata ?? {};
      if (resourceVersion !== undefined && resourceVersion !== present.metadata.resourceVersion)
        sendStatus(response, 409, "Conflict", `"${key}": the object has been modified`);
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
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
    const event = { type, collection, object: stored, revision };
    this.#history.push(event);
    for (const watcher of this.#watchers)
      if (watcher.collection === collection)
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
    if (from > this.#revision) {
      const message = `Too large resource version: ${from}, current: ${this.#revision}`;
      sendStatus(response, 504, "Timeout", message);
      return;
    }
    response.writeHead(200, { "content-type": "application/json" });
    if (from < this.#compactedTo) {
      const object = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    response.flushHeaders();
    for (const { type, object, revision, collection: of } of this.#history)
      if (of === collection && revision > from) response.write(`${JSON.stringify({ type, object })}\n`);
    const watcher = { collection, response };
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
  }

  #bookmark(): void {
    const object = { kind: "Entry", metadata: { resourceVersion: String(this.#revision) } };
    for (const { response } of this.#watchers)
      response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
  }
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
