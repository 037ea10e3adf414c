/**
 * Sends and receives what a client says and hears on one link: whole frames for DHCPv4, whose client has no address yet,
 * and messages for DHCPv6. The real ones are sockets; tests may put a scripted server in their place.
 */
export interface Port {
  /** @throws where the link takes nothing */
  send(bytes: Uint8Array): void;
  /** The next one for a DHCP client; undefined where none is there. */
  receive(): Uint8Array | undefined;
  close(): void;
}
