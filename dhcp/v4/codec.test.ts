import { array, assert, constantFrom, integer, property, record, uint8Array } from "fast-check";
import { expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { macFromBytes, parseMac } from "#net/mac.ts";
import { broadcastAddress, broadcastMac, decodeFrame, encodeFrame } from "./frame.ts";
import { leaseTimes, readLease } from "./lease.ts";
import { type DhcpMessage, decodeMessage, encodeMessage, noAddress, Option } from "./message.ts";
import { readDomainSearch, readPrefixLength, readRoutes } from "./option-values.ts";

const mac = parseMac("02:00:00:00:00:01");
const address = integer({ min: 0, max: 0xffffffff }).map((value) => ({
  family: 4 as const,
  value: BigInt(value),
}));
const options = array(
  record({
    code: integer({ min: 1, max: 254 }).filter((code) => code !== Option.Overload),
    value: uint8Array({ maxLength: 600 }),
  }),
  { maxLength: 6 },
).map((list) => new Map(list.map(({ code, value }) => [code, value])));

const message = record({
  isReply: constantFrom(true, false),
  transaction: integer({ min: 0, max: 0xffffffff }),
  seconds: integer({ min: 0, max: 0xffff }),
  broadcast: constantFrom(true, false),
  clientAddress: address,
  yourAddress: address,
  mac: uint8Array({ minLength: 6, maxLength: 6 }).map(macFromBytes),
  options,
});

test("decodeMessage() reads what encodeMessage() has written, options of several pieces too", () => {
  assert(
    property(message, (given: DhcpMessage) => {
      const bytes = encodeMessage(given);
      expect(bytes.length).toBeGreaterThanOrEqual(300);
      expect(decodeMessage(bytes)).toEqual(given);
    }),
  );
});

test("no bytes whatever make a decoder throw", () => {
  assert(
    property(uint8Array({ maxLength: 700 }), (bytes) => {
      decodeMessage(bytes);
      decodeFrame(bytes);
      const some = new Map([
        [Option.ClasslessRoutes, bytes],
        [Option.DomainSearch, bytes],
        [Option.SubnetMask, bytes.subarray(0, 4)],
      ]);
      readRoutes(some);
      readDomainSearch(some);
      readPrefixLength(some);
    }),
  );
  const whole = encodeMessage({ ...blank, options: new Map([[Option.HostName, Buffer.from("a")]]) });
  for (let length = 0; length < whole.length; length++) decodeMessage(whole.subarray(0, length));
});

const blank: DhcpMessage = {
  isReply: true,
  transaction: 1,
  seconds: 0,
  broadcast: false,
  clientAddress: noAddress,
  yourAddress: parseIp("10.1.0.5"),
  mac,
  options: new Map(),
};

test("options that went on in the other fields are found there", () => {
  const bytes = Buffer.from(
    encodeMessage({
      ...blank,
      options: new Map([
        [Option.HostName, Buffer.from("ab")],
        [Option.Overload, Uint8Array.of(3)],
      ]),
    }),
  );
  bytes.set([Option.HostName, 2, 0x63, 0x64, 255], 108);
  bytes.set([Option.DomainName, 1, 0x78, 255], 44);
  const { options } = decodeMessage(bytes) ?? {};
  expect(Buffer.from(options?.get(Option.HostName) ?? []).toString()).toBe("abcd");
  expect(Buffer.from(options?.get(Option.DomainName) ?? []).toString()).toBe("x");
});

test("a frame has the checksums that receivers want, and is read back", () => {
  const frame = {
    sourceMac: mac,
    destinationMac: broadcastMac,
    source: noAddress,
    destination: broadcastAddress,
    sourcePort: 68,
    destinationPort: 67,
    payload: Buffer.from("odd"),
  };
  const bytes = encodeFrame(frame);
  expect(decodeFrame(bytes)).toEqual(frame);
  // Short frames come padded.
  expect(decodeFrame(Buffer.concat([bytes, Buffer.alloc(20)]))).toEqual(frame);
  const broken = Buffer.from(bytes);
  broken[26] = 1;
  expect(decodeFrame(broken)).toBeUndefined();
  for (let length = 0; length < bytes.length; length++)
    expect(decodeFrame(bytes.subarray(0, length))).toBeUndefined();
});

test("routes: option 121 alone, else 33 and a default by the first router", () => {
  const router = [Option.Router, Uint8Array.of(10, 1, 0, 1, 10, 1, 0, 2)] as const;
  const fixed = [Option.StaticRoute, Uint8Array.of(192, 168, 7, 7, 10, 1, 0, 3)] as const;
  expect(readRoutes(new Map([router, fixed]))).toEqual([
    { destination: parseCidr("192.168.7.0/24"), gateway: parseIp("10.1.0.3") },
    { destination: parseCidr("0.0.0.0/0"), gateway: parseIp("10.1.0.1") },
  ]);
  const classless = Uint8Array.of(0, 10, 1, 0, 9, 20, 172, 16, 16, 0, 0, 0, 0, 33, 1);
  expect(readRoutes(new Map([router, fixed, [Option.ClasslessRoutes, classless]]))).toEqual([
    { destination: parseCidr("0.0.0.0/0"), gateway: parseIp("10.1.0.9") },
    { destination: parseCidr("172.16.16.0/20"), gateway: undefined },
  ]);
});

const seconds = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

test("T1 and T2 are the server's where they make sense, else half and seven eighths", () => {
  const times = (lease?: number, renew?: number, rebind?: number) =>
    leaseTimes(
      new Map(
        [
          [Option.LeaseTime, lease] as const,
          [Option.RenewalTime, renew] as const,
          [Option.RebindingTime, rebind] as const,
        ].flatMap(([code, value]) => (value === undefined ? [] : [[code, seconds(value)] as const])),
      ),
      100,
    );
  expect(times(800)).toEqual({ obtainedAt: 100, renewAt: 500, rebindAt: 800, expiresAt: 900 });
  expect(times(800, 200, 300)).toMatchObject({ renewAt: 300, rebindAt: 400 });
  expect(times(800, 900, 850)).toMatchObject({ renewAt: 500, rebindAt: 800 });
  expect(times(800, 400, 300)).toMatchObject({ renewAt: 400, rebindAt: 400 });
  expect(times()).toMatchObject({ renewAt: 1900, expiresAt: 3700 });
  expect(times(1)).toMatchObject({ expiresAt: 110 });
  expect(times(0xffffffff)).toMatchObject({
    renewAt: Number.POSITIVE_INFINITY,
    expiresAt: Number.POSITIVE_INFINITY,
  });
  assert(
    property(
      integer({ min: 0, max: 0xffffffff }),
      integer({ min: 0, max: 0xffffffff }),
      integer({ min: 0, max: 0xffffffff }),
      (a, b, c) => {
        const { obtainedAt, renewAt, rebindAt, expiresAt } = times(a, b, c);
        expect(obtainedAt < renewAt && renewAt <= rebindAt && rebindAt <= expiresAt).toBe(true);
      },
    ),
  );
});

test("a lease without mask has that of its class; one without address or server is none", () => {
  const server = [Option.ServerIdentifier, Uint8Array.of(10, 1, 0, 1)] as const;
  expect(readLease({ ...blank, options: new Map([server]) }, mac, 0).address).toEqual(
    parseCidr("10.1.0.5/8"),
  );
  const mask = [Option.SubnetMask, Uint8Array.of(255, 255, 254, 0)] as const;
  expect(readLease({ ...blank, options: new Map([server, mask]) }, mac, 0).address).toEqual(
    parseCidr("10.1.0.5/23"),
  );
  expect(() => readLease(blank, mac, 0)).toThrow(/no server/);
  expect(() => readLease({ ...blank, yourAddress: noAddress, options: new Map([server]) }, mac, 0)).toThrow(
    /no address/,
  );
});
