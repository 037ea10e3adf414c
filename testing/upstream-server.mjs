// A name server for tests, on port 53 of the address that it is given, UDP and TCP. What it does depends on the name
// that it is asked for; `count.NAME` answers in TXT how often NAME was asked of it, over UDP and over TCP.
// `whence.NAME` where a question came from: port, id, and the name in the letters that came.
//   node testing/upstream-server.mjs ADDRESS [LABEL]

import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import dnsPacket from "dns-packet";

const [address = "127.0.0.1", label = "one"] = process.argv.slice(2);
const counts = new Map();

const soa = (name) => ({
  type: "SOA",
  name,
  ttl: 30,
  data: { mname: "ns.test", rname: "root.test", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 20 },
});

function records(name, type) {
  if (type === "TXT" && name.startsWith("count.")) {
    const counted = counts.get(name.slice("count.".length)) ?? { udp: 0, tcp: 0 };
    return [{ type, name, ttl: 0, data: `${counted.udp} ${counted.tcp}` }];
  }
  if (type === "TXT") return [{ type, name, ttl: 60, data: label }];
  if (type === "PTR") return [{ type, name, ttl: 60, data: "outside.test" }];
  if (type === "AAAA") return [{ type, name, ttl: 60, data: "2001:db8::1" }];
  if (type !== "A") return [];
  if (name.startsWith("big")) {
    return Array.from({ length: 200 }, (_, index) => ({ type, name, ttl: 60, data: `192.0.2.${index}` }));
  }
  return [
    { type, name, ttl: name.startsWith("short") ? 1 : 60, data: label === "one" ? "192.0.2.1" : "192.0.2.2" },
  ];
}

/** @returns the answers to send, each after so many milliseconds */
function respond(bytes, isTcp, peer) {
  const query = dnsPacket.decode(bytes);
  const [question] = query.questions;
  const name = question.name.toLowerCase();
  const counted = counts.get(name) ?? { udp: 0, tcp: 0 };
  counted[isTcp ? "tcp" : "udp"] += 1;
  counts.set(name, counted);
  const edns = query.additionals.filter(({ type }) => type === "OPT");
  const base = {
    id: query.id,
    type: "response",
    questions: [question],
    flags: dnsPacket.AUTHORITATIVE_ANSWER,
  };
  const encode = (rcode, extra = {}) => {
    const message = dnsPacket.encode({ ...base, ...extra });
    message[3] = (message[3] & 0xf0) | rcode;
    return message;
  };
  const good = () =>
    encode(0, { answers: records(name, question.type).map((each) => ({ ...each, name: question.name })) });
  const [kind] = name.split(".");
  if (kind === "whence" && question.type === "TXT") {
    const data = `${peer?.port} ${query.id} ${question.name}`;
    return [[0, encode(0, { answers: [{ type: "TXT", name: question.name, ttl: 0, data }] })]];
  }
  if (kind === "drop") return [];
  if (kind === "nx") return [[0, encode(3, { authorities: [soa("test")] })]];
  if (kind === "none") return [[0, encode(0, { authorities: [soa("test")] })]];
  if (kind === "servfail" || (kind === "firstfails" && label === "one")) return [[0, encode(2)]];
  if (kind === "firstdrops" && label === "one") return [];
  if (kind === "refused" || (kind === "firstrefuses" && label === "one")) return [[0, encode(5)]];
  if (kind === "plain" && edns.length > 0) return [[0, encode(1)]];
  if (kind === "slow" && label === "one") return [[4000, good()]];
  if (kind === "late") return [[200, good()]];
  if (kind === "big" && !isTcp) return [[0, encode(0, { flags: base.flags | dnsPacket.TRUNCATED_RESPONSE })]];
  if (kind === "forged") {
    const otherId = good();
    otherId[1] ^= 1;
    otherId[otherId.length - 1] = 66;
    const otherName = encode(0, {
      questions: [{ ...question, name: "other.test" }],
      answers: [{ type: "A", name: "other.test", ttl: 60, data: "192.0.2.66" }],
    });
    return [
      [0, otherId],
      [0, otherName],
      [50, good()],
    ];
  }
  if (kind === "lower") {
    const message = good();
    for (let at = 12; message[at] !== 0; at++) if (message[at] >= 65 && message[at] <= 90) message[at] += 32;
    return [[0, message]];
  }
  return [[0, good()]];
}

const udp = createSocket("udp4");
udp.on("message", (bytes, peer) => {
  let answers;
  try {
    answers = respond(bytes, false, peer);
  } catch (error) {
    console.error(`not understood: ${bytes.toString("hex")}: ${error.message}`);
    return;
  }
  for (const [delayMs, message] of answers) {
    setTimeout(() => udp.send(message, peer.port, peer.address), delayMs);
  }
});
const tcp = createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", (bytes) => {
    for (const [, message] of respond(bytes.subarray(2), true)) {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      // In two pieces, as a network may bring it.
      socket.write(length);
      setTimeout(() => socket.write(message), 5);
    }
  });
});
udp.bind(53, address, () => tcp.listen(53, address, () => console.log("ready")));
