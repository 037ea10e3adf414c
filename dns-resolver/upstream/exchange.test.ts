import dnsPacket from "dns-packet";
import { describe, expect, test } from "vitest";
import { Flag } from "#dns-resolver/wire/numbers.ts";
import { isBadQuery, parseQuery, type Query } from "#dns-resolver/wire/query.ts";
import { answerFrom, parseResponse } from "#dns-resolver/wire/response.ts";
import { encodeQuestion, questionKey, questionOf } from "./exchange.ts";

const doBit = 0x8000;

/** A client's query. @param edns flags of its OPT record; undefined: without EDNS */
function ask(
  name: string,
  options: { readonly flags?: number; readonly edns?: number; readonly ednsOptions?: unknown[] } = {},
): Query {
  const { flags = Flag.RecursionDesired, edns, ednsOptions = [] } = options;
  const opt = { type: "OPT", name: ".", udpPayloadSize: 4096, flags: edns ?? 0, options: ednsOptions };
  const bytes = dnsPacket.encode({
    type: "query",
    id: 1,
    flags,
    questions: [{ type: "A", name }],
    additionals: edns === undefined ? [] : [opt as unknown as dnsPacket.Answer],
  });
  const query = parseQuery(bytes, 0, bytes.length, false);
  if (isBadQuery(query)) throw new Error("a bad query");
  return query;
}

const subnet = { code: "CLIENT_SUBNET", ip: "192.0.2.0", sourcePrefixLength: 24 };
const cookie = { code: 10, data: Buffer.from("0102030405060708", "hex") };

describe("questions of clients", () => {
  test("are the same in any case, with or without EDNS, cookies, subnets or AD", () => {
    const key = questionKey(ask("www.test"));
    const others = [
      ask("WWW.Test"),
      ask("www.test", { edns: 0 }),
      ask("www.test", { edns: 0, ednsOptions: [subnet, cookie] }),
      ask("www.test", { flags: Flag.RecursionDesired | Flag.AuthenticData }),
    ];
    expect(others.map(questionKey)).toEqual(others.map(() => key));
  });

  test("are others with DO, CD, or without RD", () => {
    const all = [
      ask("www.test"),
      ask("www.test", { edns: doBit }),
      ask("www.test", { flags: Flag.RecursionDesired | Flag.CheckingDisabled }),
      ask("www.test", { flags: 0 }),
    ];
    expect(new Set(all.map(questionKey)).size).toBe(all.length);
  });

  test("tell a server of DO, CD and RD, and nothing else of the client", () => {
    const flags = Flag.RecursionDesired | Flag.CheckingDisabled | Flag.AuthenticData;
    const query = ask("www.test", { flags, edns: doBit, ednsOptions: [subnet, cookie] });
    const sent = dnsPacket.decode(
      Buffer.from(encodeQuestion(questionOf(query), { withEdns: true, withCase: true })),
    );
    expect(sent).toMatchObject({ id: 0, flag_rd: true, flag_cd: true, flag_ad: false });
    expect(sent.additionals).toMatchObject([
      { type: "OPT", flag_do: true, options: [], udpPayloadSize: 1232 },
    ]);
  });
});

test("an answer says AD to who has asked for it alone, and DO to who has said so", () => {
  const { AUTHENTIC_DATA, RECURSION_AVAILABLE } = dnsPacket;
  const response = parseResponse(
    dnsPacket.encode({
      type: "response",
      flags: AUTHENTIC_DATA | RECURSION_AVAILABLE,
      questions: [{ type: "A", name: "www.test" }],
      answers: [{ type: "A", name: "www.test", ttl: 60, data: "192.0.2.1" }],
    }),
  );
  if (!response) throw new Error("no response");
  const answered = (query: Query) => dnsPacket.decode(Buffer.from(answerFrom(response, query, 0)));
  expect(answered(ask("www.test"))).toMatchObject({ flag_ad: false, additionals: [] });
  expect(answered(ask("www.test", { flags: Flag.AuthenticData }))).toMatchObject({ flag_ad: true });
  expect(answered(ask("www.test", { edns: 0 }))).toMatchObject({
    flag_ad: false,
    additionals: [{ type: "OPT", flag_do: false }],
  });
  expect(answered(ask("www.test", { edns: doBit }))).toMatchObject({
    flag_ad: true,
    additionals: [{ type: "OPT", flag_do: true }],
  });
});
