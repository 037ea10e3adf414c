import type { CapturedPacket } from "./pcap-reader.ts";
import { interfaceDescription, packetBlock, sectionHeader } from "./pcapng.ts";

interface Waiting {
  readonly point: number;
  readonly packet: CapturedPacket;
}

/** What the points are called, and what they were told of by the first bytes of their captures. */
export interface PointHeader {
  readonly name: string;
  readonly description: string;
  readonly linkType: number;
  readonly snapLength: number;
}

/** Packets of several points in one pcapng stream, in the order of their times as far as they come in time. */
export class PcapngMerge {
  readonly #write: (bytes: Buffer) => void;
  readonly #holdNs: bigint;
  readonly #numbers = new Map<number, number>();
  #waiting: Waiting[] = [];

  /**
   * @param options.application named in the file
   * @param options.holdMs how long a packet waits for earlier ones of other points
   */
  constructor(
    write: (bytes: Buffer) => void,
    { application, holdMs }: { readonly application: string; readonly holdMs: number },
  ) {
    this.#write = write;
    this.#holdNs = BigInt(holdMs) * 1_000_000n;
    write(sectionHeader(application));
  }

  /** Once for each point, before its first packet. */
  describe(point: number, header: PointHeader): void {
    this.#numbers.set(point, this.#numbers.size);
    this.#write(interfaceDescription(header));
  }

  add(point: number, packets: readonly CapturedPacket[]): void {
    for (const packet of packets) this.#waiting.push({ point, packet });
  }

  /** Writes what has waited long enough at `nowNs`, since 1970; all where it is not given. */
  flush(nowNs?: bigint): void {
    const until = nowNs === undefined ? undefined : nowNs - this.#holdNs;
    const isDue = ({ packet }: Waiting) => until === undefined || packet.timeNs <= until;
    const due = this.#waiting.filter(isDue).sort((a, b) => (a.packet.timeNs < b.packet.timeNs ? -1 : 1));
    if (due.length === 0) return;
    this.#waiting = this.#waiting.filter((each) => !isDue(each));
    this.#write(
      Buffer.concat(due.map(({ point, packet }) => packetBlock(this.#numbers.get(point) ?? 0, packet))),
    );
  }
}
