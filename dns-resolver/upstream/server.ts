import { formatIp, type IpAddress } from "#net/ip.ts";
import type { UpstreamSocket } from "./socket.ts";

/** How long a server that has failed is asked only after the others. */
const penaltyMs = 5000;

/** One server, from one namespace, and how it has behaved. */
export class UpstreamServer {
  readonly ip: IpAddress;
  readonly port: number;
  readonly text: string;
  /** Open ones, each with a port of its own. */
  readonly sockets: UpstreamSocket[] = [];
  /** It does not understand EDNS, and is asked without (RFC 6891 section 6.2.2). */
  lacksEdns = false;
  /** It answers with another case than it was asked in: its answers have one proof less. */
  changesCase = false;
  #failedUntilMs = 0;
  #failures = 0;

  constructor(ip: IpAddress, port: number) {
    this.ip = ip;
    this.port = port;
    this.text = formatIp(ip);
  }

  answered(): void {
    this.#failures = 0;
    this.#failedUntilMs = 0;
  }

  failed(nowMs: number): void {
    this.#failures += 1;
    this.#failedUntilMs = nowMs + penaltyMs * Math.min(this.#failures, 6);
  }

  isFailing(nowMs: number): boolean {
    return this.#failedUntilMs > nowMs;
  }
}
