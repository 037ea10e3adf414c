import type { TestNamespace } from "./test-namespace.ts";

/**
 * Sends one ICMPv6 message with hop limit 255, as neighbour discovery wants it (RFC 4861), from a raw socket. In Perl,
 * which every Debian has, and which knows raw sockets where Node does not.
 */
const senderScript = `
use Socket qw(:all);
my ($to, $device, $hex) = @ARGV;
socket(my $socket, AF_INET6, SOCK_RAW, 58) or die "socket: $!";
my ($unicastHops, $multicastHops) = (16, 18);
setsockopt($socket, 41, $_, pack("i", 255)) or die "hops: $!" for ($unicastHops, $multicastHops);
open(my $file, "<", "/proc/net/if_inet6") or die;
my ($scope) = map { hex((split)[1]) } grep { /\\s$device$/ } <$file>;
send($socket, pack("H*", $hex), 0, pack_sockaddr_in6(0, inet_pton(AF_INET6, $to), $scope)) or die "send: $!";
`;

function send(from: TestNamespace, to: string, message: string): void {
  const script = senderScript.replaceAll("'", `'\\''`);
  from.run(`perl -e '${script}' ${to} eth0 ${message}`);
}

function hex(value: number, bytes: number): string {
  return value.toString(16).padStart(bytes * 2, "0");
}

/** Claims to be the router for everybody (RFC 4861 section 4.2), for half an hour. */
export function advertiseRouter(from: TestNamespace): void {
  send(from, "ff02::1", `86000000${hex(64, 1)}00${hex(1800, 2)}${hex(0, 8)}`);
}

/**
 * Claims that an address is at a MAC address (RFC 4861 section 4.4), overriding what was known.
 * @param target 32 hex digits
 * @param mac 12 hex digits
 */
export function advertiseNeighbor(
  from: TestNamespace,
  to: string,
  claim: { target: string; mac: string },
): void {
  send(from, to, `88000000${hex(0x20000000, 4)}${claim.target}0201${claim.mac}`);
}
