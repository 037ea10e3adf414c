import type { Socket } from "node:net";
import { native } from "#native/addon.ts";

/** Effective uid of the process that connected, or undefined where it is gone already. */
export function peerUid(socket: Socket): number | undefined {
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : native().peerUid(fd);
}

/** Whether the other end is closed at this very moment; the socket's events tell it at some time later. */
export function hasHungUp(socket: Socket): boolean {
  const fd = descriptorOf(socket);
  return fd === undefined || native().hasHungUp(fd);
}

function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  return typeof fd === "number" && fd >= 0 ? fd : undefined;
}
