import dnsPacket from "dns-packet";
import type { AnswerTable } from "#dns-resolver/answer-table.ts";
import type { Asker } from "#dns-resolver/asker.ts";
import { chain, type Outcome } from "#dns-resolver/chain.ts";
import { failure } from "#dns-resolver/link/authority.ts";
import { local } from "#dns-resolver/link/local.ts";
import { reverse } from "#dns-resolver/link/reverse.ts";
import { special } from "#dns-resolver/link/special.ts";
import type { NameEntry } from "#dns-resolver/registry.ts";
import { Snapshot } from "#dns-resolver/snapshot.ts";
import { compareQuestion, encodeQuestion, questionOf } from "#dns-resolver/upstream/exchange.ts";
import { parseNameServers } from "#dns-resolver/upstream/group.ts";
import { encodeError } from "#dns-resolver/wire/encode.ts";
import { encodeName, nameText } from "#dns-resolver/wire/name.ts";
import { Flag, Rcode, RecordType } from "#dns-resolver/wire/numbers.ts";
import { isBadQuery, parseQuery, type Query } from "#dns-resolver/wire/query.ts";
import { answerFrom, parseResponse } from "#dns-resolver/wire/response.ts";
import { formatIp, tryParseIp } from "#net/ip.ts";

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

const entry = (index: number, names: readonly string[]): NameEntry => ({
  network: index < 60 ? "net1" : "Net.Two",
  containerId: `c${index}`,
  ifName: "eth0",
  netns: { path: "/run/netns/none", dev: 1, ino: index },
  names,
  addresses: [`10.1.0.${index}/24`, `fd00::${index}/64`],
  port: 65053,
  isInternal: false,
  domain: "lab.example",
  servers: [],
  createdAtMs: index,
});

const snapshot = new Snapshot();
// As many as don't fit into the shortest answers.
for (let index = 1; index < 70; index++) {
  snapshot.add(entry(index, [`c${index}`, "many", index % 2 ? "odd" : "even", "x_y.z"]));
}

const asker: Asker = {
  id: "1:1",
  containerId: "c1",
  netns: { path: "/run/netns/none", dev: 1, ino: 1 },
  networks: ["net1", "Net.Two"],
  isInternal: false,
  upstreams: undefined,
  // What has one of its own is nothing that bytes decide.
  answers: undefined as unknown as AnswerTable,
  load: { forwarded: 0, connections: 0, queries: 0, failures: 0, refused: 0 },
};

const forwarded: Query[] = [];
const handler = chain([special, local(snapshot), reverse(snapshot)], (query, _asker, reply) => {
  forwarded.push(query);
  reply(failure(query, Rcode.ServFail, "forwarded"));
});

/** A query of a client, through all that answers without asking anybody. */
function query(bytes: Uint8Array, isTcp: boolean): void {
  const parsed = parseQuery(bytes, 0, bytes.length, isTcp);
  if (isBadQuery(parsed)) {
    if (parsed.rcode === "drop") return;
    const message = encodeError(parsed, parsed.rcode);
    check(same(message.subarray(0, 2), bytes.subarray(0, 2)), "the error has another id");
    check((message[2] as number) >= 0x80, "the error is no answer");
    check((parsed.rcode & 15) === ((message[3] as number) & 15), "the error has another code");
    dnsPacket.decode(Buffer.from(message));
    return;
  }
  const again = encodeName(parsed.name);
  check(again !== undefined, "its name has no wire form");
  check(
    same(again, questionOf(parsed).bytes.subarray(0, -4)),
    "the wire form of its name is not what was asked for",
  );
  let outcome: Outcome | undefined;
  handler(parsed, asker, (given) => {
    check(outcome === undefined, "answered twice");
    outcome = given;
  });
  check(outcome !== undefined, "not answered");
  for (const message of [outcome.message, ...(outcome.keep?.variants ?? [])]) answer(message, parsed);
  const sent = encodeQuestion(questionOf(parsed), { withEdns: true, withCase: true });
  check(compareQuestion(sent, parsed.question.length, sent) === "same", "our own question is another");
  dnsPacket.decode(Buffer.from(sent));
  forwarded.length = 0;
}

/** What every answer of ours has to be. @returns as dns-packet reads it */
function answer(message: Uint8Array, asked: Query): dnsPacket.DecodedPacket {
  check(message.length <= asked.maxBytes, "longer than the client takes");
  check((((message[0] as number) << 8) | (message[1] as number)) === asked.id, "another id");
  check((message[2] as number) >= 0x80, "no answer");
  check(
    same(message.subarray(12, 12 + asked.question.length), asked.question),
    "does not repeat the question",
  );
  const read = dnsPacket.decode(Buffer.from(message));
  check(read.questions?.length === 1, "not one question");
  const hasOpt = (read.additionals ?? []).some(({ type }) => type === "OPT");
  check(hasOpt === asked.hasEdns, "EDNS where there was none, or none where there was");
  return read;
}

/** A server's answer, given on to a client that asks the same. */
function response(bytes: Uint8Array): void {
  const parsed = parseResponse(bytes);
  if (!parsed) return;
  check(parsed.bytes.length <= bytes.length, "longer than what came");
  const header = Uint8Array.of(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1);
  const question = parsed.bytes.subarray(12, 12 + parsed.questionBytes);
  const opt = Uint8Array.of(0, 0, 41, 5, 0, 0, 0, 0x80, 0, 0, 0);
  const asked = Buffer.concat([header, question, opt]);
  for (const isTcp of [false, true]) {
    const client = parseQuery(asked, 0, asked.length, isTcp);
    // Only what repeats a question of ours gets this far, and ours are well-formed.
    if (isBadQuery(client) || client.question.length !== parsed.questionBytes) return;
    const message = answerFrom(parsed, client, 10);
    check(message.length <= client.maxBytes, "longer than the client takes");
    check(same(message.subarray(12, 12 + client.question.length), client.question), "another question");
    const isCut = ((message[2] as number) & (Flag.Truncated >> 8)) !== 0;
    if (isCut || parsed.isTruncated) continue;
    const came = recordsOf(bytes);
    const given = recordsOf(message);
    check(came !== undefined, "taken, although it is malformed");
    check(given !== undefined, "malformed, although what came is not");
    // What came after EDNS is left out, and what we add of it is the last.
    const end = came.findIndex(({ type }) => type === RecordType.OPT);
    const expected = end < 0 ? came : came.slice(0, end);
    check(given.length === expected.length + 1, "records are missing");
    for (const [index, record] of expected.entries()) {
      const other = given[index];
      check(other !== undefined && other.section === record.section, "in another section");
      check(other.type === record.type && same(other.data, record.data), "another record");
      check(other.ttl <= record.ttl, "a longer TTL");
    }
  }
}

interface FoundRecord {
  readonly section: number;
  readonly type: number;
  readonly ttl: number;
  readonly data: Uint8Array;
}

/** Reads with nothing of what is tested, and looks at no data: dns-packet reads beyond their end. */
function recordsOf(bytes: Uint8Array): readonly FoundRecord[] | undefined {
  const view = Buffer.from(bytes);
  const found: FoundRecord[] = [];
  let at = 12;
  const passName = () => {
    while (at < view.length && (view[at] as number) > 0 && (view[at] as number) < 64)
      at += (view[at] as number) + 1;
    at += (view[at] ?? 0) === 0 ? 1 : 2;
  };
  passName();
  at += 4;
  for (const section of [6, 8, 10]) {
    for (let count = view.readUInt16BE(section); count > 0; count--) {
      passName();
      if (at + 10 > view.length) return undefined;
      const end = at + 10 + view.readUInt16BE(at + 8);
      if (end > view.length) return undefined;
      const [type, ttl] = [view.readUInt16BE(at), view.readUInt32BE(at + 4)];
      found.push({ section, type, ttl, data: view.subarray(at + 10, end) });
      at = end;
    }
  }
  return found;
}

function name(bytes: Uint8Array): void {
  const text = Buffer.from(bytes).toString("latin1");
  const wire = encodeName(text);
  if (!wire) return;
  check(wire.length <= 255, "a name that is too long");
  const read = nameText(wire, 0);
  const again = encodeName(read);
  check(again !== undefined && nameText(again, 0) === read, "another name when it is read again");
}

function resolvConf(bytes: Uint8Array): void {
  for (const ip of parseNameServers(Buffer.from(bytes).toString("utf8"), tryParseIp)) {
    check(tryParseIp(formatIp(ip)) !== undefined, "a server that has no address");
  }
}

/**
 * Throws where the resolver does with these bytes what it never may.
 * @param bytes the first says what they are: a query over UDP or TCP, a server's answer, a name, a resolv.conf
 */
export function fuzzNames(bytes: Uint8Array): void {
  const rest = bytes.subarray(1);
  switch ((bytes[0] ?? 0) % 8) {
    case 0:
    case 1:
    case 2:
      query(rest, false);
      return;
    case 3:
      query(rest, true);
      return;
    case 4:
    case 5:
      response(rest);
      return;
    case 6:
      name(rest);
      return;
    default:
      resolvConf(rest);
  }
}

const opt = { type: "OPT", name: ".", udpPayloadSize: 1232 } as unknown as dnsPacket.Answer;

/** What is changed, to begin with. */
export function seedsOfNames(): readonly Uint8Array[] {
  const kinds = [
    ["c1", "A"],
    ["Many.Net1", "AAAA"],
    ["odd.net.two", "A"],
    ["_8080._tcp.many", "SRV"],
    ["1.0.1.10.in-addr.arpa", "PTR"],
    [`1.${"0.".repeat(27)}0.d.f.ip6.arpa`, "PTR"],
    ["localhost", "AAAA"],
    ["c1.lab.example", "MX"],
    ["outside.test", "TXT"],
  ] as const;
  const queries = kinds.flatMap(([asked, type]) =>
    [[], [opt]].map((additionals) =>
      Buffer.concat([
        Buffer.of(0),
        dnsPacket.encode({
          type: "query",
          id: 77,
          flags: dnsPacket.RECURSION_DESIRED,
          questions: [{ name: asked, type }],
          additionals,
        }),
      ]),
    ),
  );
  const soa = {
    type: "SOA" as const,
    name: "test",
    ttl: 300,
    data: { mname: "ns.test", rname: "root.test", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 20 },
  };
  const answers: dnsPacket.Answer[] = [
    { type: "CNAME", name: "www.test", ttl: 300, data: "host.test" },
    { type: "A", name: "host.test", ttl: 40, data: "192.0.2.1" },
    { type: "MX", name: "www.test", ttl: 9, data: { preference: 1, exchange: "mail.test" } },
  ];
  const responses = [
    { answers },
    { answers, additionals: [opt] },
    { authorities: [soa] },
    { answers, authorities: [soa], additionals: [answers[1] as dnsPacket.Answer, opt] },
  ].map((each) =>
    Buffer.concat([
      Buffer.of(4),
      dnsPacket.encode({ type: "response", id: 0, questions: [{ name: "www.test", type: "A" }], ...each }),
    ]),
  );
  const texts = [
    "\u0006a.b\\.c.xn--d",
    "\u0007# comment\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch a b\noptions ndots:2\n",
  ];
  return [...queries, ...responses, ...texts.map((text) => Buffer.from(text, "latin1"))];
}

/** Parts of messages that mean something. */
export const partsOfNames: readonly Uint8Array[] = [
  "c00c",
  "c000",
  "c0ff",
  "ffff",
  "00",
  "3f",
  "0001 0001",
  "001c 0001",
  "0021 0001",
  "000c 0001",
  "00ff 0001",
  "0006 0001 0000 0005 0000",
  "00 0029 04d0 0000 8000 0000",
  "00 0029 1000 0000 0000 000c 000a 0008 0102030405060708",
  "c00c 0001 0001 80000001 0004 0a010001",
  "c00c 0005 0001 00000005 0002 c00c",
  "04 6d616e79 00",
  "04 6e657431 00",
  "07 696e2d61646472 04 61727061 00",
  "03 697036 04 61727061 00",
  "04 5f746370 00",
  "0100 0001 0000 0000 0000",
  "8180 0001 0001 0000 0001",
].map((hex) => Buffer.from(hex.replaceAll(" ", ""), "hex"));
