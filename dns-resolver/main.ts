// Main of the resolver's thread, which netd starts. Node's own loop never runs here: dns-resolver/event-loop.ts does.

import { readSync } from "node:fs";
import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { HeapKeeper } from "#machine/heap-keeper.ts";
import { tryParseIp } from "#net/ip.ts";
import { chain } from "./chain.ts";
import { Containers } from "./containers.ts";
import { EventLoop } from "./event-loop.ts";
import { cache } from "./link/cache.ts";
import { forward } from "./link/forward.ts";
import { local } from "./link/local.ts";
import { reverse } from "./link/reverse.ts";
import { special } from "./link/special.ts";
import type { LogReport, NumberedOrder, Order, QueryReport, Report, ResolverReport } from "./messages.ts";
import { QueryLog } from "./query-log.ts";
import { NameServiceError } from "./registry.ts";
import { Snapshot } from "./snapshot.ts";
import { ResponseCache } from "./upstream/response-cache.ts";
import { encodeName } from "./wire/name.ts";
import { isBadQuery, parseQuery } from "./wire/query.ts";

/** What netd hands over when it starts the thread. */
export interface ResolverData {
  readonly port: MessagePort;
  /** Becomes readable when there is a message. */
  readonly wakeFd: number;
}

const maxCacheBytes = 16 * 1024 * 1024;
/** What ten thousand names of other hosts leave behind when they are taken in. */
const heapWasteBytes = 2 * 1024 * 1024;
/** So long nobody must have asked before garbage is collected, which keeps answers waiting. */
const quietMs = 1000;
/** Troubles of one kind are told so often at most. */
const troubleEveryMs = 1000;

const { port, wakeFd } = workerData as ResolverData;

function tell(report: Report): void {
  port.postMessage(report);
}

const loop = new EventLoop((error) => {
  const fields = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  tell({ op: "log", level: "error", message: "resolver: a handler failed", fields });
});
const snapshot = new Snapshot();
const responses = new ResponseCache({ maxBytes: maxCacheBytes });
const queryLog = new QueryLog((isFollowed) => loop.tellAll(isFollowed));
let lastTroubleMs = -Infinity;

const handler = chain(
  [special, local(snapshot), reverse(snapshot), cache(responses, loop)],
  forward({
    loop,
    responses,
    onTrouble(message, fields) {
      if (loop.nowMs - lastTroubleMs < troubleEveryMs) return;
      lastTroubleMs = loop.nowMs;
      tell({ op: "log", level: "debug", message: `resolver: ${message}`, fields });
    },
  }),
);

const containers = new Containers({
  loop,
  snapshot,
  responses,
  queryLog,
  handler: () => handler,
  log: (level, message, fields) => tell({ op: "log", level, message: `resolver: ${message}`, fields }),
});

/** Carries out an order; its answer may come later. */
function obey(order: Order, done: (value: unknown) => void): void {
  switch (order.op) {
    case "add":
      containers.add(order.entry);
      done(undefined);
      return;
    case "remove":
      containers.remove(order.key);
      done(undefined);
      return;
    case "foreign":
      containers.changeForeign(order.put, order.gone);
      done(undefined);
      return;
    case "hostServers":
      containers.setHostServers(order.addresses.flatMap((text) => tryParseIp(text) ?? []));
      done(undefined);
      return;
    case "sweep":
      containers.sweep();
      done(undefined);
      return;
    case "list": {
      const report: ResolverReport = {
        containers: containers.report(),
        hostServers: containers.hostServers,
        cached: responses.size,
        cachedBytes: responses.bytes,
        heapBytes: process.memoryUsage().heapUsed,
      };
      done(report);
      return;
    }
    case "query":
      ask(order, done);
      return;
    case "log": {
      const report: LogReport = { entries: queryLog.read(order.after, loop.nowMs) };
      done(report);
      return;
    }
    case "stop":
      containers.close();
      loop.stop();
      done(undefined);
      return;
  }
}

/** The way of a container's own query, with EDNS as most clients have it. */
function ask(order: Extract<Order, { op: "query" }>, done: (value: unknown) => void): void {
  const asker = containers.find(order.key);
  if (!asker) throw new NameServiceError(`container ${order.key.containerId} has no names here`);
  const name = encodeName(order.name);
  if (!name) throw new NameServiceError(`Cannot ask for ${JSON.stringify(order.name)}: not a domain name`);
  const header = Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0);
  const question = Uint8Array.of(order.type >> 8, order.type & 0xff, 0, 1);
  const bytes = Buffer.concat([header, name, question]);
  const query = parseQuery(bytes, 0, bytes.length, true);
  if (isBadQuery(query)) {
    throw new NameServiceError(`Cannot ask for type ${order.type}: it is none that is answered`);
  }
  const startedMs = performance.now();
  handler(query, asker, ({ message, source }) => {
    const report: QueryReport = {
      message,
      source,
      ms: Math.round((performance.now() - startedMs) * 10) / 10,
    };
    done(report);
  });
}

function takeOrders(): void {
  const eight = Buffer.alloc(8);
  try {
    readSync(wakeFd, eight);
  } catch {
    // EAGAIN: it was read already.
  }
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (!received) return;
    const { number, order } = received.message as NumberedOrder;
    try {
      obey(order, (value) => tell({ op: "done", number, value }));
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
      const message = error instanceof Error ? error.message : String(error);
      tell({ op: "failed", number, message, ...(code === undefined ? {} : { code }) });
    }
  }
}

/** The thread's own: Node's, which would do it, never comes to it. */
function keepHeap(heap: HeapKeeper, askedBefore: number): void {
  loop.after(quietMs, () => {
    const { asked } = containers;
    if (asked === askedBefore) heap.tick();
    keepHeap(heap, asked);
  });
}

loop.addBorrowed(wakeFd, takeOrders);
takeOrders();
keepHeap(new HeapKeeper(heapWasteBytes), containers.asked);
loop.run();
port.close();
