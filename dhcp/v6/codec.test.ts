import { array, assert, integer, property, record, uint8Array } from "fast-check";
import { expect, test } from "vitest";
import { encodeDomainName, readDomainNames } from "#dhcp/domain-names.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import { encodeAssociation, readAssociations } from "./association.ts";
import { associationId, duidOf, formatDuid, parseDuid } from "./duid.ts";
import { leaseTimes, readLease, unexpired } from "./lease.ts";
import {
  type DhcpMessage,
  decodeMessage,
  decodeOptions,
  encodeMessage,
  findOption,
  MessageType,
  Option,
} from "./message.ts";
import { nextPause, retransmission } from "./retransmission.ts";
import { describeStatus, readStatus } from "./status.ts";

/** Taken from the wire with tcpdump: REPLY of dnsmasq 2.90 to a SOLICIT for two addresses, with rapid commit. */
const dnsmasqReply = bytes(
  "07e05282000100120004eb9b52eb42478c94acc76bc8caff53c30002000e0001000132951e07bee1688e88b0000e00000003" +
    "00281b84aa6a0000003c0000006900050018fd000001000000000000000000000051000000780000007800030028fce573e3" +
    "0000003c0000006900050018fd00000100000000000000000000005a0000007800000078000d000900007375636365737300" +
    "070001ff0038001400010010fd0000010000000000000000000001230018001e0161076578616d706c65036f726700016207" +
    "6578616d706c65036f72670000170010fd000001000000000000000000000053",
);
/** ADVERTISE of the ISC's server 4.4.3, whose only address is given. */
const iscAdvertise = bytes(
  "026134bd0003003c1b84aa6a0000000000000000000d002c00024e6f2061646472657373657320617661696c61626c6520666f" +
    "72207468697320696e746572666163652e000100120004c033cf497a478565b864f6b8cd0251950002000e0001000132951e0a" +
    "f68f4f12e95d00070001c800170010fd000001000000000000000000000053",
);

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function decoded(data: Uint8Array): DhcpMessage {
  const message = decodeMessage(data);
  if (!message) throw new Error("not decoded");
  return message;
}

const options = array(
  record({ code: integer({ min: 1, max: 0xffff }), value: uint8Array({ maxLength: 300 }) }),
  { maxLength: 8 },
);

test("decodeMessage() reads what encodeMessage() has written, options of one number in their order", () => {
  const message = record({
    type: integer({ min: 1, max: 11 }),
    transaction: integer({ min: 0, max: 0xffffff }),
    options,
  });
  assert(
    property(message, (given) => {
      expect(decodeMessage(encodeMessage(given))).toEqual(given);
    }),
  );
});

test("what servers have sent is read, and written again byte for byte", () => {
  for (const given of [dnsmasqReply, iscAdvertise]) {
    expect(Buffer.from(encodeMessage(decoded(given))).toString("hex")).toBe(
      Buffer.from(given).toString("hex"),
    );
  }
  const reply = decoded(dnsmasqReply);
  expect(reply).toMatchObject({ type: MessageType.Reply, transaction: 0xe05282 });
  const lease = readLease(reply, readAssociations(reply.options), 1000);
  expect(lease?.addresses.map(({ address }) => formatIp(address))).toEqual(["fd00:1::51", "fd00:1::5a"]);
  expect(lease).toMatchObject({
    search: ["a.example.org", "b.example.org"],
    timeServers: ["fd00:1::123"],
    times: { obtainedAt: 1000, renewAt: 1060, rebindAt: 1105, expiresAt: 1120 },
  });
  expect(lease?.nameservers.map(formatIp)).toEqual(["fd00:1::53"]);
  expect(formatDuid(lease?.server ?? new Uint8Array())).toBe("00:01:00:01:32:95:1e:07:be:e1:68:8e:88:b0");
  const [association] = readAssociations(decoded(iscAdvertise).options);
  expect(association && describeStatus(association.status)).toBe(
    "NoAddrsAvail: No addresses available for this interface.",
  );
  expect(findOption(decoded(iscAdvertise).options, Option.Preference)).toEqual(Uint8Array.of(200));
});

test("no truncation and no bytes whatever make a decoder throw", () => {
  const readAll = (data: Uint8Array) => {
    const message = decodeMessage(data);
    if (message) readLease(message, readAssociations(message.options), 0);
    return message;
  };
  for (const whole of [dnsmasqReply, iscAdvertise]) {
    for (let length = 0; length < whole.length; length++) {
      const cut = readAll(whole.subarray(0, length));
      // An option that is cut makes all of it worthless; between two options the message is shorter.
      if (cut) expect(encodeMessage(cut)).toHaveLength(length);
    }
  }
  const codes = [1, 2, 3, 5, 7, 13, 23, 24, 31, 56, 82];
  assert(
    property(uint8Array({ maxLength: 200 }), (data) => {
      readAll(data);
      readDomainNames(data, { compressed: false });
      readDomainNames(data, { compressed: true });
      decodeOptions(data);
      const each = codes.map((code) => ({ code, value: data }));
      readAssociations(each);
      readStatus(each);
      readLease({ type: 7, transaction: 1, options: each }, readAssociations(each), 0);
    }),
  );
});

test("relays' messages are none of the client's", () => {
  expect(decodeMessage(Uint8Array.of(12, 0, 0, 0))).toBeUndefined();
  expect(decodeMessage(Uint8Array.of(13, 0, 0, 0))).toBeUndefined();
  expect(decodeMessage(Uint8Array.of(7, 0, 0))).toBeUndefined();
});

/** An association as a server writes it. */
function association(times: readonly number[], ...addresses: (readonly [string, number, number])[]) {
  const { value } = encodeAssociation(
    7,
    addresses.map(([address]) => parseIp(address)),
  );
  const buffer = Buffer.from(value);
  buffer.writeUInt32BE(times[0] ?? 0, 4);
  buffer.writeUInt32BE(times[1] ?? 0, 8);
  for (const [index, [, preferred, valid]] of addresses.entries()) {
    const at = 12 + 28 * index + 4 + 16;
    buffer.writeUInt32BE(preferred, at);
    buffer.writeUInt32BE(valid, at + 4);
  }
  return { code: Option.Association, value: buffer };
}

test("an association or an address that contradicts itself counts for nothing", () => {
  expect(readAssociations([association([60, 50], ["fd00::1", 100, 100])])).toEqual([]);
  const [read] = readAssociations([association([50, 60], ["fd00::1", 101, 100], ["fd00::2", 99, 100])]);
  expect(read?.addresses.map(({ address }) => formatIp(address))).toEqual(["fd00::2"]);
});

test("T1 and T2 come from the server, or from the time for which the address is preferred", () => {
  const times = (one: readonly number[], preferred: number, valid: number) => {
    const associations = readAssociations([association(one, ["fd00::1", preferred, valid])]);
    const reply = { type: 7, transaction: 1, options: [{ code: 2, value: Uint8Array.of(1) }] };
    return readLease(reply, associations, 100)?.times;
  };
  expect(times([60, 105], 120, 120)).toEqual({
    obtainedAt: 100,
    renewAt: 160,
    rebindAt: 205,
    expiresAt: 220,
  });
  expect(times([0, 0], 100, 200)).toEqual({ obtainedAt: 100, renewAt: 150, rebindAt: 180, expiresAt: 300 });
  expect(times([0, 0], 0, 200)).toMatchObject({ renewAt: 200, rebindAt: 260 });
  // Not all the time, whatever a server says.
  expect(times([1, 1], 100, 100)).toMatchObject({ renewAt: 105, rebindAt: 105 });
  const never = 0xffffffff;
  expect(times([never, never], never, never)).toMatchObject({
    renewAt: Number.POSITIVE_INFINITY,
    expiresAt: Number.POSITIVE_INFINITY,
  });
  const second = integer({ min: 0, max: never });
  assert(
    property(second, second, second, second, (t1, t2, preferred, valid) => {
      const found = times([t1, t2], preferred, valid);
      if (!found) return;
      expect(found.renewAt > 100 && found.renewAt <= found.rebindAt).toBe(true);
      expect(found.expiresAt > 100).toBe(true);
    }),
  );
  expect(leaseTimes([], [], 1).obtainedAt).toBe(1);
});

test("addresses of one lease end one by one", () => {
  const given = [association([50, 60], ["fd00::1", 100, 100], ["fd00::2", 200, 200])];
  const reply = { type: 7, transaction: 1, options: [{ code: 2, value: Uint8Array.of(1) }] };
  const lease = readLease(reply, readAssociations(given), 0);
  if (!lease) throw new Error("no lease");
  expect(lease.times.expiresAt).toBe(100);
  const left = unexpired(lease, 100);
  expect(left?.addresses.map(({ address }) => formatIp(address))).toEqual(["fd00::2"]);
  expect(left?.times.expiresAt).toBe(200);
  expect(unexpired(lease, 200)).toBeUndefined();
});

test("a DUID is made of the attachment's name, the same each time, a UUID of version 8", () => {
  const duid = duidOf("c1/net1/eth0");
  expect(duidOf("c1/net1/eth0")).toEqual(duid);
  expect(duidOf("c2/net1/eth0")).not.toEqual(duid);
  expect(formatDuid(duid)).toMatch(/^00:04(:..){6}:8.:..:[89ab].(:..){7}$/);
  expect(parseDuid(formatDuid(duid))).toEqual(Buffer.from(duid));
  expect(parseDuid("00112233-4455-6677-8899-aabbccddeeff")).toEqual(
    Buffer.from("000400112233445566778899aabbccddeeff", "hex"),
  );
  for (const text of ["", "me", "00:04", "00:04:1", "0:0:0:0", "00".repeat(131).replace(/..(?=.)/g, "$&:")])
    expect(parseDuid(text)).toBeUndefined();
  expect(associationId("eth0", 0)).not.toBe(associationId("eth0", 1));
  expect(associationId("eth0", 0)).toBe(associationId("eth0", 0));
});

test("pauses double within a tenth, up to the longest; the first SOLICIT is not repeated early", () => {
  assert(
    property(integer({ min: 0, max: 20 }), (rounds) => {
      expect(nextPause(retransmission.solicit, undefined, { noEarlier: true })).toBeGreaterThanOrEqual(1);
      let pause = nextPause(retransmission.request, undefined);
      expect(Math.abs(pause - 1)).toBeLessThanOrEqual(0.1);
      for (let round = 0; round < rounds; round++) {
        const next = nextPause(retransmission.request, pause);
        expect(next).toBeLessThanOrEqual(33);
        if (pause < 14) expect(Math.abs(next / pause - 2)).toBeLessThanOrEqual(0.1001);
        pause = next;
      }
    }),
  );
});

test("names: without compression a pointer ends the list", () => {
  const name = encodeDomainName("a.example.org");
  expect(name && readDomainNames(name, { compressed: false })).toEqual(["a.example.org"]);
  const pointed = Buffer.concat([name ?? new Uint8Array(), Uint8Array.of(1, 0x62, 0xc0, 2)]);
  expect(readDomainNames(pointed, { compressed: true })).toEqual(["a.example.org", "b.example.org"]);
  expect(readDomainNames(pointed, { compressed: false })).toEqual(["a.example.org"]);
  expect(encodeDomainName("a..b")).toBeUndefined();
  expect(encodeDomainName("x".repeat(64))).toBeUndefined();
  expect(encodeDomainName(Array.from({ length: 130 }, () => "x").join("."))).toBeUndefined();
});
