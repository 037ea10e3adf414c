import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Call, Outcome } from "#cni/plugin.ts";
import type { ResolverService } from "#dns-resolver/service.ts";
import { foundAnything, type Repair } from "#suite/repair.ts";

/** Seconds. A verb takes a few milliseconds; a foreign IPAM plugin or a full machine, seconds. */
const buckets = [0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const verbs = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

/**
 * What netd counts, in Prometheus' text format 0.0.4. Labels are of a fixed few: no container has one of its own.
 * docs/metrics.md has the list.
 */
export class Metrics {
  readonly #registry = new Registry();
  readonly #verbs: Histogram;
  readonly #running: Gauge;
  readonly #repairs: Counter;
  readonly #repaired: Counter;

  constructor(resolver: Pick<ResolverService, "report">) {
    const registers = [this.#registry];
    this.#verbs = new Histogram({
      name: "netctl_verb_duration_seconds",
      help: "Time from when a verb's turn was asked for to its outcome, by plugin",
      labelNames: ["plugin", "verb", "outcome"],
      buckets,
      registers,
    });
    this.#running = new Gauge({
      name: "netctl_verbs_running",
      help: "Verbs under way or waiting for their turn",
      registers,
    });
    this.#repairs = new Counter({
      name: "netctl_reconcile_repairs_total",
      help: "Times that rules had been taken away by another program and were put back",
      registers,
    });
    this.#repaired = new Counter({
      name: "netctl_reconcile_repaired_total",
      help: "What was put back",
      labelNames: ["what"],
      registers,
    });
    this.#addResolver(resolver);
    this.#addProcess();
  }

  /** Runs a verb and takes its time. @param plugin of a fixed few: the suite's plugins, and "chain" */
  async time(plugin: string, call: Pick<Call, "environment">, run: () => Promise<Outcome>): Promise<Outcome> {
    const asked = call.environment["CNI_COMMAND"] ?? "";
    const verb = verbs.includes(asked) ? asked : "other";
    const startMs = performance.now();
    this.#running.inc();
    try {
      const outcome = await run();
      const labels = { plugin, verb, outcome: outcome.exitCode === 0 ? "ok" : "failed" };
      this.#verbs.observe(labels, (performance.now() - startMs) / 1000);
      return outcome;
    } finally {
      this.#running.dec();
    }
  }

  countRepair(found: Repair): void {
    if (!foundAnything(found)) return;
    const { tables, shared, attachments, failed } = found;
    this.#repairs.inc();
    this.#repaired.inc({ what: "tables" }, tables.length);
    this.#repaired.inc(
      { what: "elements" },
      attachments.reduce((sum, each) => sum + each.elements.length, shared.length),
    );
    this.#repaired.inc(
      { what: "rules" },
      attachments.reduce((sum, each) => sum + each.rules.length, 0),
    );
    this.#repaired.inc({ what: "failed" }, failed.length);
  }

  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  /** Asked for when somebody looks. */
  #addResolver(resolver: Pick<ResolverService, "report">): void {
    const registers = [this.#registry];
    const queries = new Gauge({
      name: "netctl_dns_queries",
      help: "Questions of the containers that are served now, since each came",
      registers,
    });
    const failures = new Gauge({
      name: "netctl_dns_failures",
      help: "Of these, the ones that could not be answered",
      registers,
    });
    const cached = new Gauge({
      name: "netctl_dns_cached_answers",
      help: "Answers of servers that are kept",
      registers,
    });
    const containers: Gauge = new Gauge({
      name: "netctl_dns_containers",
      help: "Containers that are served",
      registers,
      async collect() {
        // One that is busy or broken must not keep the rest from being told.
        const report = await resolver.report().catch(() => undefined);
        if (report === undefined) return;
        containers.set(report.containers.length);
        queries.set(report.containers.reduce((sum, each) => sum + each.queries, 0));
        failures.set(report.containers.reduce((sum, each) => sum + each.failures, 0));
        cached.set(report.cached);
      },
    });
  }

  #addProcess(): void {
    const registers = [this.#registry];
    const memory: Gauge = new Gauge({
      name: "process_resident_memory_bytes",
      help: "Of netd",
      registers,
      collect: () => memory.set(process.memoryUsage.rss()),
    });
    const cpu: Gauge = new Gauge({
      name: "process_cpu_seconds_total",
      help: "Of netd, user and system",
      registers,
      collect: () => {
        const { user, system } = process.cpuUsage();
        cpu.set((user + system) / 1e6);
      },
    });
    new Gauge({
      name: "process_start_time_seconds",
      help: "When netd was started, since 1970",
      registers,
    }).set(Math.round(Date.now() / 1000 - process.uptime()));
  }
}
