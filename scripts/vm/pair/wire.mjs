// What somebody on the wire between the two hosts gets to see.
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** What containers say to each other: whoever can read the wire finds it. Short enough for ping to repeat it. */
export const secret = "netctl-secret";

const listening = "/run/pair/wire.pcap";
const said = "/run/pair/tcpdump.out";

/**
 * Listens to the host's card while something is done.
 * @returns {Promise<Captured>}
 */
export async function overhear(host, action) {
  const words = "-Z root --immediate-mode -U -n -s0 -B 16384 -i eth0";
  const pid = await host.start(`exec tcpdump ${words} -w ${listening}`, said);
  await host.until("tcpdump listens", async () => await host.succeeds(`grep -q 'listening on' ${said}`));
  try {
    await action();
    await drain(host);
  } finally {
    await host.end(pid, "TERM");
  }
  await host.text(`cp ${listening} /out/wire.pcap`);
  return new Captured(join(host.out, "wire.pcap"));
}

/** tcpdump reads what the kernel has for it when it gets to it: a packet of our own says that it has. */
async function drain(host) {
  const mark = randomBytes(6).toString("hex");
  const hex = Buffer.from(mark).toString("hex");
  await host.until("tcpdump has read all", async () => {
    await host.said(`ping -c1 -W2 -p ${hex} 203.0.113.${3 - host.number}`);
    return await host.succeeds(`grep -qa ${mark} ${listening}`);
  });
}

export class Captured {
  #file;
  #bytes;

  constructor(file) {
    this.#file = file;
    this.#bytes = readFileSync(file);
  }

  /** tcpdump's words for each packet that a filter of pcap-filter(7) takes. */
  matching(filter) {
    const { status, stdout, stderr } = spawnSync("tcpdump", ["-n", "-r", this.#file, filter], {
      encoding: "utf8",
      maxBuffer: 256 * 1024 * 1024,
    });
    if (status !== 0) throw new Error(`Cannot read the capture by "${filter}": ${stderr}`);
    return stdout.split("\n").filter(Boolean);
  }

  /** @param {Uint8Array} bytes */
  includes(bytes) {
    return this.#bytes.includes(bytes);
  }

  /** The same without VXLAN of the networks with these numbers, and what is in it. */
  #besides(filter, vnis) {
    // The packet inside is in a line of its own, which begins without a time.
    const packets = this.matching(filter)
      .join("\n")
      .split(/\n(?=\d\d:\d\d:)/)
      .filter(Boolean);
    return packets.filter((words) => !vnis.includes(Number(/ vni (\d+)/.exec(words)?.[1])));
  }

  /**
   * What tells somebody what encrypted networks carry, or that it is theirs. Beside WireGuard the hosts speak for
   * themselves: with etcd, with neighbours, and pings of one to the other.
   * @param {Buffer[]} traces of containers: addresses
   * @param {number[]} clear numbers of networks that are not encrypted: their containers may look for neighbours
   */
  leaks({ traces, clear }) {
    const hosts = "src net 203.0.113.0/24 and dst net 203.0.113.0/24";
    const known = "udp portrange 51842-51843 or tcp port 2379 or icmp";
    return [
      ...this.#besides(`not arp and not icmp6 and not (${hosts} and (${known}))`, clear).map(
        (line) => `neither WireGuard nor of the hosts: ${line}`,
      ),
      ...[Buffer.from(secret), ...traces]
        .filter((bytes) => this.includes(bytes))
        .map((bytes) => `in the clear: ${bytes.toString("hex")}`),
    ];
  }
}
