import { readFileSync, writeFileSync } from "node:fs";
import { percentile } from "../statistics.mjs";
import { ticksOf } from "./rig.mjs";

/** As many as are under way, of as many clients: what a server gets that is asked as fast as it answers. */
const burst = ["-c", "8", "-q", "200"];
/** Seconds until a query counts as lost: dnsperf waits as long for the last one. */
const patience = ["-t", "1"];
export const fixedLoad = 20_000;
const maxHalfLoad = 100_000;
const externalNames = 1000;

/** One of the servers, as dnsperf finds it in the asking container's namespace. */
export class Load {
  #rig;
  #seconds;
  #unique = 0;

  constructor(rig, seconds, namesCount) {
    this.#rig = rig;
    this.#seconds = seconds;
    const lines = (count, line) => Array.from({ length: count }, (_, index) => `${line(index)}\n`).join("");
    writeFileSync(
      rig.at("local"),
      lines(namesCount, (index) => `name${index + 1}.bench A`),
    );
    writeFileSync(
      rig.at("external"),
      lines(externalNames, (index) => `host${index}.ext.test A`),
    );
  }

  #ask({ asking }, command, args) {
    const [first, ...rest] = asking;
    return this.#rig.run(first, [...rest, command, ...args]);
  }

  isAnswering(server) {
    try {
      const args = ["+short", "+tries=1", "+time=1", `@${server.address}`, "name1.bench"];
      return this.#ask(server, "dig", args).includes("10.");
    } catch {
      return false;
    }
  }

  /** Everything once, so that what can be kept is. */
  warm(server) {
    this.#perf(server, "local", burst);
    if (server.forwards) this.#perf(server, "external", ["-n", "2", "-q", "50"]);
  }

  local(server) {
    return this.#perf(server, "local", burst);
  }

  kept(server) {
    return this.#perf(server, "external", burst);
  }

  /** Names that nobody has asked for, none of them twice. */
  fresh(server) {
    const series = this.#unique++;
    const names = Array.from(
      { length: 100_000 * this.#seconds },
      (_, index) => `u${index}-${series}.ext.test A\n`,
    );
    writeFileSync(this.#rig.at("unique"), names.join(""));
    return this.#perf(server, "unique", ["-n", "1", "-q", "100"]);
  }

  #perf(server, file, extra) {
    const before = ticksOf(server.pid);
    const args = [
      "-s",
      server.address,
      "-d",
      this.#rig.at(file),
      "-l",
      String(this.#seconds),
      ...patience,
      ...extra,
    ];
    const out = this.#ask(server, "dnsperf", args);
    const used = (ticksOf(server.pid) - before) * 10_000;
    const number = (pattern) => Number(pattern.exec(out)?.[1] ?? NaN);
    return {
      rate: number(/Queries per second:\s+([\d.]+)/),
      lost: number(/Queries lost:\s+(\d+)/),
      bad: /SERVFAIL|NXDOMAIN|REFUSED/.test(/Response codes:(.*)/.exec(out)?.[1] ?? ""),
      microseconds: used / number(/Queries completed:\s+(\d+)/),
    };
  }

  /** Of each local name at a load that is the same for all. */
  fixed(server) {
    return this.#latencies(server, fixedLoad);
  }

  /** @param rate what it answers at most */
  half(server, rate) {
    return this.#latencies(server, Math.min(Math.round(rate / 2), maxHalfLoad));
  }

  /** In microseconds. */
  #latencies(server, load) {
    const args = ["-s", server.address, "-d", this.#rig.at("local"), "-l", String(this.#seconds)];
    const out = this.#ask(server, "dnsperf", [...args, "-Q", String(load), "-v"]);
    const all = [...out.matchAll(/^> \S+ \S+ \S+ ([\d.]+)$/gm)].map(([, seconds]) => Number(seconds) * 1e6);
    return { p50: percentile(all, 0.5), p99: percentile(all, 0.99) };
  }
}

/** What processes have had of all CPUs since the machine was started, and what its host has taken, in ticks. */
export function machineTicks() {
  const line = /^cpu\s+(.*)$/m.exec(readFileSync("/proc/stat", "utf8"))[1];
  const [user, nice, system, idle, iowait, irq, softirq, stolen] = line.split(" ").map(Number);
  const busy = user + nice + system;
  return { busy, stolen, all: busy + stolen + idle + iowait + irq + softirq };
}
