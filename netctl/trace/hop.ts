/** One thing that happens to the packet, or would. */
export interface Hop {
  /** Name of the place: a sandbox, "host", an interface. */
  readonly at: string;
  readonly text: string;
  /** "stop": it goes no further. "unknown": nobody has asked. */
  readonly verdict: "pass" | "stop" | "unknown";
  /** What helps, where it stops. */
  readonly remedy?: string;
}

export const pass = (at: string, text: string): Hop => ({ at, text, verdict: "pass" });
export const stop = (at: string, text: string, remedy: string): Hop => ({
  at,
  text,
  verdict: "stop",
  remedy,
});

/** What kind of packet is asked about. */
export interface Flow {
  readonly protocol: "tcp" | "udp" | "icmp";
  /** Absent for ICMP. */
  readonly port?: number;
}
