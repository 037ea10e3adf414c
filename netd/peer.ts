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

/**
 * Writes as much as the socket takes at this very moment, past Node's stream, which takes ten times as long: only where
 * nothing was written to that before and nothing is to be written after.
 * @returns how many bytes went out; the rest is for the stream
 */
export function sendNow(socket: Socket, bytes: Uint8Array): number {
  const fd = descriptorOf(socket);
  return fd === undefined || socket.writableLength > 0 ? 0 : native().sendNow(fd, bytes);
}

/** Reads what is there at this very moment, of a socket that is paused. @returns how many bytes */
export function receiveNow(socket: Socket, into: Uint8Array): number {
  const fd = descriptorOf(socket);
  return fd === undefined ? 0 : native().receiveNow(fd, into);
}

function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  return typeof fd === "number" && fd >= 0 ? fd : undefined;
}
