/** Middle value; the mean of the two in the middle where their number is even. NaN of nothing. */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Nearest rank: the smallest of the values that is not below `share` of them all. NaN of nothing. */
export function percentile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** Times by subject and verb, in ms; failures apart, so that none is ever taken for a time. */
export class Measurement {
  /** subject -> verb -> { times, parts, failures } */
  #kept = new Map();

  #of(subject, verb) {
    if (!this.#kept.has(subject)) this.#kept.set(subject, new Map());
    const verbs = this.#kept.get(subject);
    if (!verbs.has(verb)) verbs.set(verb, { times: [], parts: [], failures: [] });
    return verbs.get(verb);
  }

  add(subject, lines) {
    for (const { verb, ns, parts, failure } of lines) {
      if (!verb) continue;
      const kept = this.#of(subject, verb);
      if (failure !== undefined) {
        kept.failures.push(failure);
        continue;
      }
      kept.times.push(ns / 1e6);
      parts.forEach((part, index) => (kept.parts[index] ??= []).push(part / 1e6));
    }
  }

  verbs() {
    return [...new Set([...this.#kept.values()].flatMap((verbs) => [...verbs.keys()]))];
  }

  failures(subject) {
    return [...(this.#kept.get(subject) ?? [])].flatMap(([verb, { failures }]) =>
      failures.map((text) => `${verb}: ${text}`),
    );
  }

  /** Median and p95 in ms, their number, and the median of each part; undefined where there is no time at all. */
  summary(subject, verb) {
    const kept = this.#kept.get(subject)?.get(verb);
    if (!kept || kept.times.length === 0) return undefined;
    const { times, parts, failures } = kept;
    return {
      median: median(times),
      p95: percentile(times, 0.95),
      count: times.length,
      failed: failures.length,
      parts: parts.map(median),
    };
  }
}
