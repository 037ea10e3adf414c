import { say } from "#dhcp/hear.ts";
import type { Port } from "#dhcp/port.ts";
import type { IpAddress } from "#net/ip.ts";
import { encodeAssociation } from "./association.ts";
import { formatDuid } from "./duid.ts";
import type { Lease } from "./lease.ts";
import {
  type DhcpMessage,
  type DhcpOption,
  decodeMessage,
  encodeMessage,
  findOption,
  MessageType,
  Option,
} from "./message.ts";

/** Who asks, and for what. */
export interface ClientIdentity {
  readonly duid: Uint8Array;
  /** Numbers of the associations (IAIDs): one for each address. */
  readonly associations: readonly number[];
  /** Numbers of the options that servers are asked for. */
  readonly requested: readonly number[];
  /** What they are told, besides. */
  readonly provided: ReadonlyMap<number, Uint8Array>;
  /** A server may give addresses at once, without being chosen: RFC 8415 section 18.2.1. */
  readonly rapidCommit: boolean;
}

/** One question, which is sent again with the same transaction until there is an answer. */
export class Conversation {
  readonly #port: Port;
  readonly #identity: ClientIdentity;
  readonly #transaction = Math.floor(Math.random() * 2 ** 24);
  readonly #startMs: number;

  /** @param elapsedSeconds for which the same has been asked before */
  constructor(port: Port, identity: ClientIdentity, elapsedSeconds = 0) {
    this.#port = port;
    this.#identity = identity;
    this.#startMs = performance.now() - 1000 * elapsedSeconds;
  }

  /** @throws {DhcpError} where the link takes no packets */
  ask(question: {
    readonly type: number;
    /** Its DUID; absent: all servers. */
    readonly server?: Uint8Array | undefined;
    readonly addresses: readonly { readonly association: number; readonly address: IpAddress }[];
    /** Only associations with addresses, and no wish for anything else. */
    readonly isAboutAddresses?: boolean;
  }): void {
    const { duid, associations, requested, provided, rapidCommit } = this.#identity;
    const { type, server, addresses, isAboutAddresses = false } = question;
    const elapsed = Buffer.alloc(2);
    elapsed.writeUInt16BE(Math.min(Math.round((performance.now() - this.#startMs) / 10), 0xffff));
    const options: DhcpOption[] = [{ code: Option.ClientIdentifier, value: duid }];
    if (server) options.push({ code: Option.ServerIdentifier, value: server });
    options.push({ code: Option.ElapsedTime, value: elapsed });
    for (const id of associations) {
      const own = addresses.filter(({ association }) => association === id).map(({ address }) => address);
      if (own.length > 0 || !isAboutAddresses) options.push(encodeAssociation(id, own));
    }
    if (!isAboutAddresses) {
      const asked = [...requested, ...(type === MessageType.Solicit ? [Option.LongestSolicitPause] : [])];
      const numbers = Buffer.alloc(2 * asked.length);
      for (const [index, code] of asked.entries()) numbers.writeUInt16BE(code, 2 * index);
      options.push({ code: Option.OptionRequest, value: numbers });
      for (const [code, value] of provided) options.push({ code, value });
    }
    if (type === MessageType.Solicit && rapidCommit)
      options.push({ code: Option.RapidCommit, value: new Uint8Array() });
    say(this.#port, encodeMessage({ type, transaction: this.#transaction, options }));
  }

  /** A message that answers this question, of a server that says who it is: RFC 8415 section 16. */
  readonly read = (bytes: Uint8Array): DhcpMessage | undefined => {
    const message = decodeMessage(bytes);
    if (!message || message.transaction !== this.#transaction) return undefined;
    if (message.type !== MessageType.Reply && message.type !== MessageType.Advertise) return undefined;
    const client = findOption(message.options, Option.ClientIdentifier);
    const isOurs = client !== undefined && Buffer.from(this.#identity.duid).equals(client);
    return isOurs && findOption(message.options, Option.ServerIdentifier) ? message : undefined;
  };

  /** Like `read`, REPLY alone. */
  readonly readReply = (bytes: Uint8Array): DhcpMessage | undefined => {
    const message = this.read(bytes);
    return message?.type === MessageType.Reply ? message : undefined;
  };
}

export function serverOf({ options }: DhcpMessage): Uint8Array {
  return findOption(options, Option.ServerIdentifier) ?? new Uint8Array();
}

/** As it reads in an error: `server 00:01:…` */
export function nameServer(message: DhcpMessage): string {
  return `server ${formatDuid(serverOf(message))}`;
}

/** Gives addresses back. Its answer is not waited for: RFC 8415 section 18.2.7 leaves that to the client. */
export function releaseLease(port: Port, identity: ClientIdentity, { server, addresses }: Lease): void {
  const conversation = new Conversation(port, identity);
  conversation.ask({ type: MessageType.Release, server, addresses, isAboutAddresses: true });
}
