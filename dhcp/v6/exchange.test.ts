import { expect, test } from "vitest";
import type { Port } from "#dhcp/port.ts";
import { formatIp, ipToBytes, parseIp } from "#net/ip.ts";
import { acquireLease } from "./acquire.ts";
import type { ClientIdentity } from "./conversation.ts";
import { formatDuid } from "./duid.ts";
import { confirmLease, extendLease } from "./extend.ts";
import { hasAddress, type Lease } from "./lease.ts";
import {
  type DhcpMessage,
  type DhcpOption,
  decodeMessage,
  encodeMessage,
  encodeOptions,
  findOption,
  MessageType,
  Option,
} from "./message.ts";
import { StatusCode } from "./status.ts";

/** Answers that no server in Debian can be brought to give, in an order that no wire guarantees. */

const identity: ClientIdentity = {
  duid: Uint8Array.of(0, 4, 9),
  associations: [7],
  requested: [Option.NameServers],
  provided: new Map(),
  rapidCommit: false,
};
const options = { timeoutMs: 20_000, now: () => 1000 };
const [one, two] = [Uint8Array.of(0, 3, 1), Uint8Array.of(0, 3, 2)];

type Server = (question: DhcpMessage, said: readonly DhcpMessage[]) => readonly DhcpMessage[];

/** A port behind which these answers come, each once for each question. */
function scripted(server: Server): { readonly port: Port; readonly said: DhcpMessage[] } {
  const said: DhcpMessage[] = [];
  const waiting: Uint8Array[] = [];
  const port: Port = {
    send(bytes) {
      const question = decodeMessage(bytes);
      if (!question) throw new Error("no message");
      said.push(question);
      waiting.push(...server(question, said).map(encodeMessage));
    },
    receive: () => waiting.shift(),
    close() {},
  };
  return { port, said };
}

function uint32(...values: readonly number[]): Uint8Array {
  const buffer = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) buffer.writeUInt32BE(value, 4 * index);
  return buffer;
}

function status(code: number): DhcpOption {
  return { code: Option.StatusCode, value: Uint8Array.of(0, code) };
}

function ia(address: string | undefined, valid: number, ...more: DhcpOption[]): DhcpOption {
  const value =
    address === undefined ? undefined : Buffer.concat([ipToBytes(parseIp(address)), uint32(valid, valid)]);
  const inner = [...(value ? [{ code: Option.AssociatedAddress, value }] : []), ...more];
  return { code: Option.Association, value: Buffer.concat([uint32(7, 0, 0), encodeOptions(inner)]) };
}

function answer(
  { transaction }: DhcpMessage,
  type: number,
  server: Uint8Array,
  ...more: DhcpOption[]
): DhcpMessage {
  return {
    type,
    transaction,
    options: [
      { code: Option.ClientIdentifier, value: identity.duid },
      { code: Option.ServerIdentifier, value: server },
      ...more,
    ],
  };
}

const preference = (value: number) => ({ code: Option.Preference, value: Uint8Array.of(value) });

const typesOf = (said: readonly DhcpMessage[]) => said.map(({ type }) => type);
const serverOf = ({ options }: DhcpMessage) =>
  formatDuid(findOption(options, Option.ServerIdentifier) ?? new Uint8Array());
const addressesOf = ({ addresses }: Lease) => addresses.map(({ address }) => formatIp(address));

test("the preferred server is asked first, and the other where that one refuses", async () => {
  const { port, said } = scripted((question) => {
    if (question.type === MessageType.Solicit) {
      return [
        answer(question, MessageType.Advertise, one, ia("fd00::1", 100), preference(10)),
        answer(question, MessageType.Advertise, two, ia("fd00::2", 100), preference(20)),
      ];
    }
    const isOne = serverOf(question) === formatDuid(one);
    return [
      answer(
        question,
        MessageType.Reply,
        isOne ? one : two,
        isOne ? ia("fd00::1", 100) : ia(undefined, 0, status(StatusCode.NoAddrsAvail)),
      ),
    ];
  });
  expect(addressesOf(await acquireLease(port, identity, options))).toEqual(["fd00::1"]);
  expect(said.slice(1).map(serverOf)).toEqual([formatDuid(two), formatDuid(one)]);
});

test("what is for somebody else, of no server, or of another question is no answer", async () => {
  const { port } = scripted((question) => {
    const type = question.type === MessageType.Solicit ? MessageType.Advertise : MessageType.Reply;
    const right = answer(question, type, one, ia("fd00::1", 100), preference(255));
    return [
      { ...right, transaction: question.transaction ^ 1 },
      { ...right, options: right.options.slice(1) },
      { ...right, options: right.options.filter(({ code }) => code !== Option.ServerIdentifier) },
      {
        ...right,
        options: [{ code: Option.ClientIdentifier, value: Uint8Array.of(9, 9) }, ...right.options.slice(1)],
      },
      // Nobody has asked for a commitment.
      answer(question, MessageType.Reply, two, ia("fd00::bad", 100), {
        code: Option.RapidCommit,
        value: new Uint8Array(),
      }),
      right,
    ].filter((each) => question.type === MessageType.Solicit || each === right);
  });
  expect(addressesOf(await acquireLease(port, identity, options))).toEqual(["fd00::1"]);
});

test("a server that has failed for a reason that passes is asked again with the same question", async () => {
  const { port, said } = scripted((question, before) => {
    if (question.type === MessageType.Solicit)
      return [answer(question, MessageType.Advertise, one, ia("fd00::1", 100), preference(255))];
    const isFirst = before.filter(({ type }) => type === MessageType.Request).length === 1;
    return [
      isFirst
        ? answer(question, MessageType.Reply, one, status(StatusCode.UseMulticast))
        : answer(question, MessageType.Reply, one, ia("fd00::1", 100)),
    ];
  });
  expect(addressesOf(await acquireLease(port, identity, options))).toEqual(["fd00::1"]);
  expect(typesOf(said)).toEqual([MessageType.Solicit, MessageType.Request, MessageType.Request]);
  expect(said[1]?.transaction).toBe(said[2]?.transaction);
});

test("a server that offers and refuses is not asked as fast as it answers", async () => {
  const { port, said } = scripted((question) =>
    question.type === MessageType.Solicit
      ? [answer(question, MessageType.Advertise, one, ia("fd00::1", 100), preference(255))]
      : [answer(question, MessageType.Reply, one, status(StatusCode.NotOnLink))],
  );
  await expect(acquireLease(port, identity, { ...options, timeoutMs: 1500 })).rejects.toThrow(
    /^server 00:03:01 refused \(NotOnLink\) \(\d SOLICIT sent in 1\.5 s\)$/,
  );
  expect(said.length).toBeLessThan(8);
});

test("fewer addresses than asked for are given back, with the reason in the error", async () => {
  const two = { ...identity, associations: [7, 8], rapidCommit: true };
  const { port, said } = scripted((question) =>
    question.type === MessageType.Solicit
      ? [
          answer(question, MessageType.Reply, one, ia("fd00::1", 100), {
            code: Option.RapidCommit,
            value: new Uint8Array(),
          }),
        ]
      : [],
  );
  await expect(acquireLease(port, two, { ...options, timeoutMs: 500 })).rejects.toThrow(
    /^server 00:03:01 gave 1 of 2 addresses/,
  );
  expect(typesOf(said)).toContain(MessageType.Release);
});

const lease: Lease = {
  server: one,
  addresses: [
    { association: 7, address: parseIp("fd00::1"), preferredUntil: 1100, validUntil: 1100 },
    { association: 7, address: parseIp("fd00::2"), preferredUntil: 1100, validUntil: 1100 },
  ],
  nameservers: [],
  search: [],
  timeServers: [],
  times: { obtainedAt: 1000, renewAt: 1050, rebindAt: 1080, expiresAt: 1100 },
};
const renewal = { mode: "renew", now: () => 1060, elapsedSeconds: 0 } as const;

test("an address that a server takes back goes, one that it does not name stays with its time", async () => {
  const { port } = scripted((question) => [answer(question, MessageType.Reply, one, ia("fd00::1", 0))]);
  const extension = await extendLease(port, identity, lease, renewal);
  if (extension.outcome !== "extended") throw new Error(extension.outcome);
  expect(addressesOf(extension.lease)).toEqual(["fd00::2"]);
  expect(extension.lease.times).toEqual(lease.times);
  expect(hasAddress(extension.lease, parseIp("fd00::1"))).toBe(false);
});

test("a server that takes back all has taken back the lease", async () => {
  const { port } = scripted((question) => [
    answer(question, MessageType.Reply, one, ia("fd00::1", 0), ia("fd00::2", 0)),
  ]);
  const outcome = await extendLease(port, identity, lease, renewal);
  expect(outcome).toEqual({ outcome: "lost", why: "server 00:03:01 has taken them back" });
});

test("an answer that extends nothing is silence with a reason", async () => {
  for (const [given, why] of [
    [status(StatusCode.UnspecFail), "UnspecFail"],
    [ia("fd00::9", 100), "it gives other addresses"],
    [preference(1), "it says nothing of them"],
  ] as const) {
    const { port } = scripted((question) => [answer(question, MessageType.Reply, one, given)]);
    expect(await extendLease(port, identity, lease, renewal)).toEqual({
      outcome: "silence",
      why: `server 00:03:01 does not extend it: ${why}`,
    });
  }
});

test("a confirmation that fails for another reason than the link changes nothing", async () => {
  const says = async (code: number) => {
    const { port } = scripted((question) => [answer(question, MessageType.Reply, one, status(code))]);
    return (await confirmLease(port, identity, lease)).outcome;
  };
  expect(await says(StatusCode.Success)).toBe("confirmed");
  expect(await says(StatusCode.NotOnLink)).toBe("lost");
  expect(await says(StatusCode.UnspecFail)).toBe("silence");
});
