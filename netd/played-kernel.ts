import { openSync } from "node:fs";
import { type Native, native } from "#native/addon.ts";
import { parseCidr } from "#net/cidr.ts";
import { parseMac } from "#net/mac.ts";
import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { Errno } from "#netlink/errno.ts";
import { ControlType, headerBytes, type Message, MessageFlag, messagesIn } from "#netlink/message.ts";
import { NftMessage, nftMessageType } from "#netlink/netfilter/header.ts";
import { newAddress } from "#netlink/route/address.ts";
import { RouteMessage } from "#netlink/route/constant.ts";
import {
  linkHeaderBytes,
  linkRows,
  readLinkHeader,
  writeLinkHeader,
} from "#netlink/route/link-attributes.ts";
import { linkInfo } from "#netlink/route/link-info.ts";
import { Writer } from "#netlink/writer.ts";

/** What a rehearsal asks this kernel about. */
export interface Scene {
  readonly bridge: string;
  readonly gateway: string;
  /** The container's interface. */
  readonly ifName: string;
}

const port = 1;
const ifindexes = { far: 2, bridge: 3, near: 4 };
const up = 0x1;

const linkAttributes = attributeTable({ ...linkRows, info: [18, linkInfo] });

/**
 * The addon for a rehearsal, in which nothing goes to the kernel. There is one bridge, with its address; one veth comes
 * with the first request for a link, and goes with the first deletion. Everything else is said to be done.
 */
export function playKernel(scene: Scene): Native {
  const played = new PlayedKernel(scene);
  const exchange = (_fd: number, datagram: Uint8Array) => played.exchange(datagram);
  return {
    ...native(),
    netlinkOpen: () => ({ fd: openNothing(), port }),
    netlinkExchange: exchange,
    netlinkExchangeAsync: (fd, datagram) => Promise.resolve(exchange(fd, datagram)),
    netlinkDeleteLinks: () => {
      played.isAttached = false;
      return Promise.resolve(undefined);
    },
    openNetworkNamespace: () => ({ fd: openNothing(), dev: 0, ino: 0 }),
    netlinkJoin: () => undefined,
    netlinkReceive: () => new Uint8Array(0),
    socketIn: openNothing,
    readFileIn: () => "1\n",
    writeFilesIn: (_fd, pathsAndTexts) => pathsAndTexts.map(() => 0),
  };
}

/** A descriptor that can be closed. */
function openNothing(): number {
  return openSync("/dev/null", "r");
}

class PlayedKernel {
  readonly #scene: Scene;
  isAttached = false;
  /** What was last put into a set. */
  #element = new Uint8Array(0);

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  exchange(datagram: Uint8Array): Uint8Array {
    const replies = new Writer(4096);
    for (const request of messagesIn(datagram)) {
      const errno = this.#answer(request, replies);
      if ((request.flags & MessageFlag.Dump) === MessageFlag.Dump) {
        reply(replies, request, ControlType.Done, new Writer().i32(0).finish());
      } else if ((request.flags & MessageFlag.Ack) !== 0) {
        const verdict = new Writer().i32(-errno || 0).zeros(headerBytes);
        reply(replies, request, ControlType.Error, verdict.finish());
      }
    }
    return replies.finish();
  }

  /** @returns 0 or an errno */
  #answer(request: Message, replies: Writer): number {
    const { bridge, gateway } = this.#scene;
    switch (request.type) {
      case RouteMessage.GetLink: {
        const link = this.#link(request.body);
        if (!link) return Errno.ENODEV;
        reply(replies, request, RouteMessage.NewLink, link);
        break;
      }
      case RouteMessage.NewLink:
        if ((request.flags & MessageFlag.Create) !== 0) this.isAttached = true;
        break;
      case RouteMessage.GetAddress: {
        const address = newAddress({ ifindex: ifindexes.bridge, address: parseCidr(gateway), label: bridge });
        reply(replies, request, RouteMessage.NewAddress, address.body);
        break;
      }
      case nftMessageType(NftMessage.GetGeneration): {
        const generation = new Writer().zeros(4).attribute(1, (writer) => writer.u32be(1));
        reply(replies, request, nftMessageType(NftMessage.NewGeneration), generation.finish());
        break;
      }
      case nftMessageType(NftMessage.NewSetElements):
        this.#element = Uint8Array.from(request.body);
        break;
      case nftMessageType(NftMessage.GetSetElements):
        reply(replies, request, nftMessageType(NftMessage.NewSetElements), this.#element);
        break;
    }
    return 0;
  }

  #link(question: Uint8Array): Uint8Array | undefined {
    const { bridge, ifName } = this.#scene;
    const { ifindex } = readLinkHeader(question);
    const { name } = linkAttributes.decode(question.subarray(linkHeaderBytes));
    if (ifindex === ifindexes.bridge || name === bridge) return bridgeBody(bridge);
    if (!this.isAttached) return undefined;
    return ifindex === ifindexes.far || name === ifName
      ? vethBody(ifindexes.far, ifName, { parent: ifindexes.near })
      : vethBody(ifindexes.near, name ?? "veth", { parent: ifindexes.far, master: ifindexes.bridge });
  }
}

function reply(replies: Writer, request: Message, type: number, body: Uint8Array): void {
  replies.u32(headerBytes + body.length).u16(type);
  replies.u16(0).u32(request.sequence).u32(port).bytes(body).align();
}

/** About as many as the kernel has to say of a link that nobody here looks at. */
const others = Array.from({ length: 40 }, (_, index) => ({
  type: 100 + index,
  flags: 0,
  payload: new Uint8Array(4),
}));

function linkBody(ifindex: number, values: TypeOf<typeof linkAttributes>): Uint8Array {
  const writer = new Writer(1024);
  writeLinkHeader(writer, { type: 1, ifindex, flags: up });
  const address = parseMac("02:00:00:00:00:01");
  linkAttributes.write(writer, { address, mtu: 1500, operState: 6, unknown: others, ...values });
  return writer.finish();
}

function bridgeBody(name: string): Uint8Array {
  const bridge = { vlanFiltering: false, vlanDefaultPvid: 1, unknown: others };
  return linkBody(ifindexes.bridge, { name, info: { kind: "bridge", bridge } });
}

function vethBody(
  ifindex: number,
  name: string,
  ends: { readonly parent: number; readonly master?: number },
): Uint8Array {
  const portData = ends.master === undefined ? {} : { bridgePort: { hairpin: false, isolated: false } };
  return linkBody(ifindex, { name, ...ends, info: { kind: "veth", ...portData } });
}
