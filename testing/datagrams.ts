import { execFileSync } from "node:child_process";
import type { TestNamespace } from "./test-namespace.ts";

const script = `
const { from, to, count, bytes } = JSON.parse(process.argv[1]);
const socket = require("node:dgram").createSocket(to.includes(":") ? "udp6" : "udp4");
socket.bind(0, from, () => {
  let sent = 0;
  for (let each = 0; each < count; each++) {
    socket.send(Buffer.alloc(bytes), 9, to, () => { if (++sent === count) socket.close(); });
  }
});
`;

/** Sends datagrams to port 9, all at once; returns when the kernel has taken them. What becomes of them is the test's question. */
export function sendDatagrams(
  namespace: TestNamespace,
  what: { readonly from: string; readonly to: string; readonly count: number; readonly bytes: number },
): void {
  execFileSync("nsenter", [`--net=${namespace.path}`, process.execPath, "-e", script, JSON.stringify(what)]);
}

/** IP packets that were handed up to this namespace's own IP, of one family, whoever they were for. */
export function packetsReceived(namespace: TestNamespace, family: 4 | 6): number {
  if (family === 6) {
    return Number(/Ip6InReceives\s+(\d+)/u.exec(namespace.run("cat /proc/net/snmp6"))?.[1]);
  }
  const [names = "", values = ""] = namespace
    .run("cat /proc/net/snmp")
    .split("\n")
    .filter((line) => line.startsWith("Ip:"));
  return Number(values.split(" ")[names.split(" ").indexOf("InReceives")]);
}
