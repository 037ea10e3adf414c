import dnsPacket from "dns-packet";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeAnswer, encodeError } from "./encode.ts";
import { encodeName, nameEnd, nameText, skipName } from "./name.ts";
import { Flag, headerBytes, RecordType } from "./numbers.ts";
import { isBadQuery, parseQuery, type Query } from "./query.ts";
import { answerFrom, parseResponse } from "./response.ts";

/** NETCTL_FUZZ_RUNS: 10000000 for a night; as many as here take seconds. */
const runs = Number(process.env["NETCTL_FUZZ_RUNS"] ?? 200_000);

function parse(bytes: Uint8Array, isTcp = false): Query {
  const query = parseQuery(bytes, 0, bytes.length, isTcp);
  if (isBadQuery(query)) throw new Error(`refused with ${query.rcode}`);
  return query;
}

const label = fc.string({
  unit: fc.constantFrom(...Array.from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")),
  minLength: 1,
  maxLength: 20,
});
const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join("."));

describe("names", () => {
  it("are read back as they were written, in lower case", () => {
    fc.assert(
      fc.property(name, (text) => {
        const bytes = encodeName(text);
        if (!bytes) throw new Error("not encoded");
        expect(nameEnd(bytes, 0, bytes.length)).toBe(bytes.length);
        expect(nameText(bytes, 0)).toBe(text.toLowerCase());
      }),
      { numRuns: runs / 10 },
    );
  });

  it("with dots, backslashes and any other byte in a label are told apart from others", () => {
    const anyLabel = fc.uint8Array({ minLength: 1, maxLength: 63 });
    fc.assert(
      fc.property(fc.array(anyLabel, { minLength: 1, maxLength: 3 }), (labels) => {
        const bytes = Uint8Array.from([...labels.flatMap((each) => [each.length, ...each]), 0]);
        const text = nameText(bytes, 0);
        const again = encodeName(text);
        expect(again && nameText(again, 0)).toBe(text);
        expect(again?.length).toBe(bytes.length);
      }),
      { numRuns: runs / 10 },
    );
  });

  it.each([
    ["a label of 64 bytes", "a".repeat(64)],
    ["more than 255 bytes", Array.from({ length: 5 }, () => "a".repeat(60)).join(".")],
    ["an empty label", "a..b"],
    ["what is no byte", "a.\u{1f600}"],
    ["a backslash at the end", "a\\"],
  ])("%s is no name", (_what, text) => {
    expect(encodeName(text)).toBeUndefined();
  });

  it("compression pointers are never followed, so that none leads in a circle", () => {
    const loop = Uint8Array.of(0xc0, 0x00);
    expect(nameEnd(loop, 0, 2)).toBe(-1);
    expect(skipName(loop, 0, 2)).toBe(2);
    expect(skipName(Uint8Array.of(0xc0), 0, 1)).toBe(-1);
    expect(skipName(Uint8Array.of(0x80, 0), 0, 2)).toBe(-1);
  });
});

describe("parseQuery()", () => {
  it("reads what dns-packet writes", () => {
    const query = fc.record({
      id: fc.nat(0xffff),
      name,
      type: fc.constantFrom("A", "AAAA", "MX", "TXT", "PTR", "SRV", "SOA", "CAA"),
      rd: fc.boolean(),
      edns: fc.option(fc.record({ udpPayloadSize: fc.integer({ min: 1, max: 0xffff }), do: fc.boolean() }), {
        nil: undefined,
      }),
    });
    fc.assert(
      fc.property(query, ({ id, name, type, rd, edns }) => {
        const additionals = edns
          ? [
              {
                type: "OPT",
                name: ".",
                udpPayloadSize: edns.udpPayloadSize,
                flags: edns.do ? dnsPacket.DNSSEC_OK : 0,
              },
            ]
          : [];
        const bytes = dnsPacket.encode({
          type: "query",
          id,
          flags: rd ? dnsPacket.RECURSION_DESIRED : 0,
          questions: [{ name, type }],
          additionals: additionals as unknown as dnsPacket.Answer[],
        });
        const read = parse(bytes);
        expect(read).toMatchObject({ id, name: name.toLowerCase(), class: 1, hasEdns: edns !== undefined });
        expect(read.wantsDnssec).toBe(edns?.do ?? false);
        expect((read.flags & Flag.RecursionDesired) !== 0).toBe(rd);
        expect(read.maxBytes).toBe(Math.min(Math.max(edns?.udpPayloadSize ?? 512, 512), 4096));
        expect(Buffer.from(read.question)).toEqual(bytes.subarray(12, 12 + read.question.length));
      }),
      { numRuns: runs / 10 },
    );
  });

  it("keeps nothing of the buffer, which the next round overwrites", () => {
    const bytes = dnsPacket.encode({ type: "query", id: 1, questions: [{ name: "a.test", type: "A" }] });
    const query = parse(bytes);
    const before = Buffer.from(query.question).toString("hex");
    bytes.fill(0xff);
    expect(Buffer.from(query.question).toString("hex")).toBe(before);
  });

  it("never throws, and answers or drops whatever comes", () => {
    const header = fc.tuple(fc.nat(0xffff), fc.constantFrom(0, 0x0100, 0x2800), fc.constantFrom(1, 0, 2));
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc
        .tuple(header, fc.uint8Array({ maxLength: 80 }), fc.nat(3))
        .map(([[id, flags, count], rest, more]) =>
          Uint8Array.from([
            id >> 8,
            id & 255,
            flags >> 8,
            flags & 255,
            0,
            count,
            0,
            0,
            0,
            0,
            0,
            more,
            ...rest,
          ]),
        ),
    );
    fc.assert(
      fc.property(bytes, (input) => {
        const query = parseQuery(input, 0, input.length, false);
        const answer = isBadQuery(query)
          ? query.rcode === "drop"
            ? undefined
            : encodeError(query, query.rcode)
          : encodeError(query, 2);
        if (answer) expect(answer.length).toBeGreaterThanOrEqual(12);
      }),
      { numRuns: runs },
    );
  });

  it.each([
    ["an answer", "0000 8100 0001 0000 0000 0000 00 0001 0001", "drop"],
    ["half a header", "0000 0100", "drop"],
    ["no question", "0000 0100 0000 0000 0000 0000", 1],
    ["two questions", "0000 0100 0002 0000 0000 0000 00 0001 0001 00 0001 0001", 1],
    ["a name that points to itself", "0000 0100 0001 0000 0000 0000 c00c 0001 0001", 1],
    ["a name without an end", "0000 0100 0001 0000 0000 0000 0361", 1],
    ["an answer in the question", "0000 0100 0001 0001 0000 0000 00 0001 0001", 1],
    ["a notification", "0000 2000 0001 0000 0000 0000 00 0006 0001", 4],
    ["a zone transfer", "0000 0100 0001 0000 0000 0000 00 00fc 0001", 5],
    ["another class", "0000 0100 0001 0000 0000 0000 00 0010 0003", 5],
    ["EDNS 1", "0000 0100 0001 0000 0000 0001 00 0001 0001 00 0029 1000 0001 0000 0000", 16],
    [
      "EDNS twice",
      "0000 0100 0001 0000 0000 0002 00 0001 0001 00 0029 1000 00000000 0000 00 0029 1000 00000000 0000",
      1,
    ],
    ["EDNS of a name", "0000 0100 0001 0000 0000 0001 00 0001 0001 0161 00 0029 1000 00000000 0000", 1],
    [
      "an option beyond the end",
      "0000 0100 0001 0000 0000 0001 00 0001 0001 00 0029 1000 00000000 0008 0001",
      1,
    ],
  ])("%s is refused", (_what, hex, rcode) => {
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    expect(parseQuery(bytes, 0, bytes.length, false)).toMatchObject({ rcode });
  });
});

describe("encodeAnswer()", () => {
  const question = (text: string, edns?: number) =>
    dnsPacket.encode({
      type: "query",
      id: 4711,
      flags: dnsPacket.RECURSION_DESIRED,
      questions: [{ name: text, type: "A" }],
      additionals: (edns
        ? [{ type: "OPT", name: ".", udpPayloadSize: edns }]
        : []) as unknown as dnsPacket.Answer[],
    });
  const addresses = (count: number) =>
    Array.from({ length: count }, (_, index) => ({
      type: RecordType.A,
      ttlSeconds: 5,
      data: Uint8Array.of(10, 0, 0, index),
    }));

  it("is what dns-packet reads, as long as the client takes, cut with TC beyond that", () => {
    fc.assert(
      fc.property(
        name,
        fc.nat(120),
        fc.option(fc.integer({ min: 512, max: 4096 }), { nil: undefined }),
        (text, count, edns) => {
          const query = parse(question(text, edns));
          const bytes = encodeAnswer(query, {
            rcode: 0,
            isAuthoritative: true,
            answers: addresses(count),
            authority: [],
            additional: [],
          });
          expect(bytes.length).toBeLessThanOrEqual(query.maxBytes);
          const read = dnsPacket.decode(Buffer.from(bytes));
          expect(read).toMatchObject({ id: 4711, flag_aa: true, flag_ra: true, flag_rd: true });
          expect(read.questions?.[0]?.name).toBe(text);
          const whole = (read.answers?.length ?? 0) === count;
          expect(read.flag_tc).toBe(!whole);
          for (const [index, each] of (read.answers ?? []).entries())
            expect(each).toMatchObject({ name: text, type: "A", ttl: 5, data: `10.0.0.${index}` });
          expect(read.additionals?.length).toBe(edns === undefined ? 0 : 1);
        },
      ),
      { numRuns: runs / 50 },
    );
  });
});

describe("parseResponse()", () => {
  const response = (extra: Partial<dnsPacket.Packet> = {}, rcode = 0) => {
    const bytes = dnsPacket.encode({
      type: "response",
      id: 99,
      questions: [{ name: "Www.Example.TEST", type: "A" }],
      ...extra,
    });
    bytes[3] = (bytes[3] ?? 0) | rcode;
    return bytes;
  };
  const soa = {
    type: "SOA" as const,
    name: "test",
    ttl: 300,
    data: { mname: "ns.test", rname: "root.test", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 20 },
  };
  const answers: dnsPacket.Answer[] = [
    { type: "CNAME", name: "Www.Example.TEST", ttl: 300, data: "host.test" },
    { type: "A", name: "host.test", ttl: 40, data: "192.0.2.1" },
  ];
  const opt = { type: "OPT", name: ".", udpPayloadSize: 1232 } as unknown as dnsPacket.Answer;
  const query = () =>
    parse(dnsPacket.encode({ type: "query", id: 7, questions: [{ name: "wwW.example.Test", type: "A" }] }));

  it("holds as long as the shortest of its records, and what is not as long as the SOA says", () => {
    expect(parseResponse(response({ answers }))).toMatchObject({ ttlSeconds: 40, rcode: 0 });
    expect(parseResponse(response({ authorities: [soa] }, 3))).toMatchObject({ ttlSeconds: 20, rcode: 3 });
    expect(parseResponse(response({ authorities: [soa] }))).toMatchObject({ ttlSeconds: 20 });
    expect(parseResponse(response({}, 3))).toMatchObject({ ttlSeconds: 0 });
    expect(parseResponse(response({ answers }, 2))).toMatchObject({ ttlSeconds: 0, rcode: 2 });
  });

  it("is given to each client with its own id, letters and EDNS, and TTLs that have run", () => {
    const parsed = parseResponse(response({ answers, additionals: [opt] }));
    if (!parsed) throw new Error("malformed");
    const read = dnsPacket.decode(Buffer.from(answerFrom(parsed, query(), 15)));
    expect(read).toMatchObject({ id: 7, flag_ra: true, flag_aa: false });
    expect(read.questions?.[0]?.name).toBe("wwW.example.Test");
    expect(read.answers?.map((each) => [each.name, (each as { ttl: number }).ttl])).toEqual([
      ["wwW.example.Test", 285],
      ["host.test", 25],
    ]);
    expect(read.additionals).toEqual([]);
    const edns = parse(
      dnsPacket.encode({
        type: "query",
        id: 8,
        questions: [{ name: "www.example.test", type: "A" }],
        additionals: [opt],
      }),
    );
    expect(dnsPacket.decode(Buffer.from(answerFrom(parsed, edns, 500))).additionals).toHaveLength(1);
    expect(dnsPacket.decode(Buffer.from(answerFrom(parsed, edns, 500))).answers?.[1]).toMatchObject({
      ttl: 0,
    });
  });

  it("never throws, and what it gives on is never longer than what came", () => {
    const real = response({ answers, authorities: [soa], additionals: [opt] });
    const damaged = fc
      .tuple(fc.nat(real.length - 1), fc.nat(255), fc.nat(real.length))
      .map(([at, value, end]) => {
        const bytes = Uint8Array.from(real);
        bytes[at] = value;
        return bytes.subarray(0, end);
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 90 }), damaged), (bytes) => {
        const parsed = parseResponse(bytes);
        if (!parsed) return;
        expect(parsed.bytes.length).toBeLessThanOrEqual(bytes.length);
        for (const at of parsed.ttlOffsets) expect(at + 4).toBeLessThanOrEqual(parsed.bytes.length);
        for (const at of parsed.nameOffsets)
          expect(at + headerBytes).toBeLessThanOrEqual(parsed.bytes.length);
        // Only what repeats the question gets here.
        if (parsed.questionBytes === query().question.length) answerFrom(parsed, query(), 1);
      }),
      { numRuns: runs },
    );
  });
});
