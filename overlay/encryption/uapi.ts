import { createConnection } from "node:net";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { Control, DeviceChange, DeviceState, PeerChange, PeerState } from "./control.ts";
import { keyBytes, publicKeyOf } from "./key.ts";

/** Where every userspace WireGuard listens, whatever its version: https://www.wireguard.com/xplatform/ */
const socketDirectory = "/var/run/wireguard";
/** A process that does not answer for so long is not at work. */
const answerTimeoutMs = 2000;

export function uapiSocketPath(device: string): string {
  return `${socketDirectory}/${device}.sock`;
}

/**
 * WireGuard devices that a process is, such as wireguard-go's: the cross-platform interface, lines of `key=value` over a
 * unix socket. Keys are hexadecimal there.
 * @see https://www.wireguard.com/xplatform/
 */
export const userspaceControl: Control = {
  async read(device) {
    return decodeState(await exchange(device, "get=1\n\n"));
  },
  async change(device, change) {
    await exchange(device, encodeChange(change));
  },
};

export function encodeChange({ privateKey, port, peers }: DeviceChange): string {
  return [
    "set=1",
    ...(privateKey === undefined ? [] : [`private_key=${hex(privateKey)}`]),
    ...(port === undefined ? [] : [`listen_port=${port}`]),
    ...peers.flatMap(peerLines),
    "",
    "",
  ].join("\n");
}

function peerLines({ publicKey, remove, endpoint, allowed, keepalive }: PeerChange): readonly string[] {
  const lines = [`public_key=${hex(publicKey)}`];
  if (remove === true) return [...lines, "remove=true"];
  if (endpoint) {
    const ip = formatIp(endpoint.ip);
    lines.push(`endpoint=${endpoint.ip.family === 4 ? ip : `[${ip}]`}:${endpoint.port}`);
  }
  if (keepalive !== undefined) lines.push(`persistent_keepalive_interval=${keepalive}`);
  if (allowed)
    lines.push("replace_allowed_ips=true", ...allowed.map((cidr) => `allowed_ip=${formatCidr(cidr)}`));
  return lines;
}

/** @throws Error for lines that are no answer */
export function decodeState(text: string): DeviceState {
  let publicKey: string | undefined;
  let port = 0;
  let received = 0n;
  const peers = new Map<string, PeerState & { allowed: PeerState["allowed"] }>();
  let current: { -readonly [K in keyof PeerState]: PeerState[K] } | undefined;
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    const value = line.slice(at + 1);
    switch (line.slice(0, at)) {
      case "private_key":
        if (!/^0*$/.test(value)) publicKey = publicKeyOf(base64(value));
        break;
      case "listen_port":
        port = Number(value);
        break;
      case "public_key":
        current = { allowed: [], keepalive: 0, lastHandshakeMs: 0 };
        peers.set(base64(value), current);
        break;
      case "persistent_keepalive_interval":
        if (current) current.keepalive = Number(value);
        break;
      case "last_handshake_time_sec":
        if (current) current.lastHandshakeMs += Number(value) * 1000;
        break;
      case "last_handshake_time_nsec":
        if (current) current.lastHandshakeMs += Math.floor(Number(value) / 1e6);
        break;
      case "rx_bytes":
        received += BigInt(value);
        break;
      case "allowed_ip":
        if (current) current.allowed = [...current.allowed, parseCidr(value)];
        break;
      default:
    }
  }
  return { publicKey, port, peers, received };
}

/** @throws Error where nobody listens, answers, or does what was asked */
async function exchange(device: string, request: string): Promise<string> {
  const path = uapiSocketPath(device);
  const text = await new Promise<string>((resolve, reject) => {
    let answer = "";
    const socket = createConnection(path);
    socket.setTimeout(answerTimeoutMs, () => {
      socket.destroy(new Error(`WireGuard device "${device}" gave no answer within ${answerTimeoutMs} ms`));
    });
    socket.setEncoding("utf8");
    socket.on("error", reject);
    socket.on("close", () => {
      reject(new Error(`WireGuard device "${device}" closed its socket`));
    });
    socket.on("data", (part: string) => {
      answer += part;
      if (!answer.endsWith("\n\n")) return;
      resolve(answer);
      socket.destroy();
    });
    socket.write(request);
  });
  const errno = /^errno=(-?\d+)$/m.exec(text)?.[1];
  if (errno !== "0")
    throw new Error(`Cannot configure WireGuard device "${device}": errno ${errno ?? "missing"}`);
  return text;
}

function hex(key: string): string {
  return keyBytes(key).toString("hex");
}

function base64(text: string): string {
  return Buffer.from(text, "hex").toString("base64");
}
