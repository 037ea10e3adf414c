import { attributeTable, type TypeOf, type UnknownAttribute } from "#netlink/attribute.ts";
import { bytes, type Codec, text } from "#netlink/codec.ts";
import { bridge } from "./kind/bridge.ts";
import { bridgePort } from "./kind/bridge-port.ts";
import { dummy } from "./kind/dummy.ts";
import { ifb } from "./kind/ifb.ts";
import { ipvlan } from "./kind/ipvlan.ts";
import { macvlan } from "./kind/macvlan.ts";
import { tun } from "./kind/tun.ts";
import { veth } from "./kind/veth.ts";
import { vlan } from "./kind/vlan.ts";
import { vrf } from "./kind/vrf.ts";
import { vxlan } from "./kind/vxlan.ts";

/** Every kind of link whose own attributes are known, under the kernel's name for it. A new kind is a line here. */
export const kinds = { bridge, dummy, ifb, ipvlan, macvlan, tun, veth, vlan, vrf, vxlan };
type Kinds = typeof kinds;

/** The attributes of one kind, under its name: `{ kind: "vlan", vlan: { id: 5 } }`. */
export type KindData = { readonly [K in keyof Kinds]?: TypeOf<Kinds[K]> | undefined };

export interface LinkInfo extends KindData {
  /** "bridge", "veth" …; absent for hardware and loopback */
  readonly kind?: string | undefined;
  /** The attributes of a kind that is not in `kinds` */
  readonly otherData?: Uint8Array | undefined;
  /** The kind of its master: "bridge" for a bridge's port */
  readonly portKind?: string | undefined;
  readonly bridgePort?: TypeOf<typeof bridgePort> | undefined;
  /** What a master of another kind keeps for it */
  readonly otherPortData?: Uint8Array | undefined;
  readonly unknown?: readonly UnknownAttribute[] | undefined;
}

/** IFLA_INFO_*: include/uapi/linux/if_link.h. What the two data mean depends on the kinds. */
const envelope = attributeTable({
  kind: [1, text],
  data: [2, { ...bytes, nested: true }],
  portKind: [4, text], // IFLA_INFO_SLAVE_KIND
  portData: [5, { ...bytes, nested: true }], // IFLA_INFO_SLAVE_DATA
});

function isKnown(kind: string | undefined): kind is keyof Kinds {
  return kind !== undefined && Object.hasOwn(kinds, kind);
}

/** A kind's table without its own type: `kind` and the data belong together by construction of KindData. */
interface AnyTable {
  encode(value: object): Uint8Array;
  decode(data: Uint8Array): object;
}

function tableOf(kind: keyof Kinds): AnyTable {
  return kinds[kind];
}

export const linkInfo: Codec<LinkInfo> = {
  nested: true,
  write(into, { kind, otherData, portKind, bridgePort: port, otherPortData, unknown, ...data }) {
    const own = isKnown(kind) ? data[kind] : undefined;
    envelope.write(into, {
      kind,
      data: isKnown(kind) && own ? tableOf(kind).encode(own) : otherData,
      portKind: portKind ?? (port && "bridge"),
      portData: port ? bridgePort.encode(port) : otherPortData,
      unknown,
    });
  },
  read(payload) {
    const { kind, data, portKind, portData, unknown } = envelope.decode(payload);
    return {
      ...(kind !== undefined && { kind }),
      ...(data && (isKnown(kind) ? { [kind]: tableOf(kind).decode(data) } : { otherData: data })),
      ...(portKind !== undefined && { portKind }),
      ...(portData &&
        (portKind === "bridge" ? { bridgePort: bridgePort.decode(portData) } : { otherPortData: portData })),
      ...(unknown && { unknown }),
    };
  },
};

/** What `LinkSummary` has of it. */
export interface LinkInfoSummary {
  readonly kind?: string | undefined;
  readonly bridge?: Pick<TypeOf<typeof bridge>, "vlanFiltering" | "vlanDefaultPvid"> | undefined;
  readonly bridgePort?: Pick<TypeOf<typeof bridgePort>, "hairpin" | "isolated"> | undefined;
}

const pickKinds = envelope.picker("kind", "data", "portKind", "portData");
const pickBridge = bridge.picker("vlanFiltering", "vlanDefaultPvid");
const pickBridgePort = bridgePort.picker("hairpin", "isolated");

/** `linkInfo` for those who want no more than a summary. */
export const linkInfoSummary: Codec<LinkInfoSummary> = {
  nested: true,
  write(into, value) {
    linkInfo.write(into, value);
  },
  read(payload) {
    const { kind, data, portKind, portData } = pickKinds(payload);
    const bridge = kind === "bridge" && data ? pickBridge(data) : undefined;
    const bridgePort = portKind === "bridge" && portData ? pickBridgePort(portData) : undefined;
    return { kind, bridge, bridgePort };
  },
};
