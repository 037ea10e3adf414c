/** RTM_*: include/uapi/linux/rtnetlink.h */
export const RouteMessage = {
  NewLink: 16,
  DeleteLink: 17,
  GetLink: 18,
  SetLink: 19,
  NewAddress: 20,
  DeleteAddress: 21,
  GetAddress: 22,
  NewRoute: 24,
  DeleteRoute: 25,
  GetRoute: 26,
  NewNeighbor: 28,
  DeleteNeighbor: 29,
  GetNeighbor: 30,
  NewRule: 32,
  DeleteRule: 33,
  GetRule: 34,
  NewQdisc: 36,
  DeleteQdisc: 37,
  GetQdisc: 38,
  NewTrafficClass: 40,
  GetTrafficClass: 42,
  NewTrafficFilter: 44,
  DeleteTrafficFilter: 45,
  GetTrafficFilter: 46,
  NewNamespaceId: 88,
  GetNamespaceId: 90,
} as const;

/** RTNLGRP_*, for `NetlinkSocket.join` */
export const RouteGroup = {
  Link: 1,
  Neighbor: 3,
  Ipv4Address: 5,
  Ipv4Route: 7,
  Ipv6Address: 9,
  Ipv6Route: 11,
} as const;

/** AF_*: include/linux/socket.h */
export const Family = { Unspecified: 0, Ipv4: 2, Bridge: 7, Ipv6: 10 } as const;

export function familyNumber(family: 4 | 6 | undefined): number {
  return family === undefined ? Family.Unspecified : family === 4 ? Family.Ipv4 : Family.Ipv6;
}

/** What `new` does where there is such an entry: EEXIST, overwrite it, or put another one beside it. */
export type Presence = "exclusive" | "replace" | "append";

/** NLM_F_CREATE with what `presence` adds: `ip … add`, `ip … replace`, `ip … append` */
export function creationFlags(presence: Presence = "exclusive"): number {
  return 0x400 | { exclusive: 0x200, replace: 0x100, append: 0x800 }[presence];
}
