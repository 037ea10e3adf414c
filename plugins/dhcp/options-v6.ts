import { encodeDomainName } from "#dhcp/domain-names.ts";
import { longestDuidBytes, parseDuid } from "#dhcp/v6/duid.ts";
import { Option } from "#dhcp/v6/message.ts";
import type { OptionKind } from "./options.ts";

const maxValueBytes = 1024;

function encode(code: number, text: string): Uint8Array | string {
  const bytes = Buffer.from(text);
  if (bytes.length > maxValueBytes) return `: it has ${bytes.length} bytes, ${maxValueBytes} is the most`;
  if (code === Option.ClientIdentifier) {
    const expected = `must be 3 to ${longestDuidBytes} bytes in hex with colons, or a UUID`;
    return parseDuid(text) ?? ` ${JSON.stringify(text)}: ${expected}`;
  }
  if (code === Option.UserClass) return withLength(bytes);
  if (code === Option.VendorClass) return encodeVendorClass(text);
  if (code === Option.FullyQualifiedName) return encodeName(text);
  return bytes;
}

function withLength(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

/** RFC 8415 section 21.16: the vendor's number, and what it makes. */
function encodeVendorClass(text: string): Uint8Array | string {
  const [, digits = "", data = ""] = /^(\d{1,10}):(.+)$/s.exec(text) ?? [];
  const vendor = Number(digits);
  if (data === "" || vendor > 0xffffffff) {
    return ` ${JSON.stringify(text)}: must be an enterprise number, a colon and a text`;
  }
  const head = Buffer.alloc(4);
  head.writeUInt32BE(vendor);
  return Buffer.concat([head, withLength(Buffer.from(data))]);
}

/** The server is to enter the name (RFC 4704 section 4.1); one of a single label gets the server's domain (4.2). */
const serverUpdates = 0x01;

function encodeName(text: string): Uint8Array | string {
  const name = encodeDomainName(text);
  if (!name) return ` ${JSON.stringify(text)}: must be a domain name`;
  const isPartial = !text.includes(".");
  return Buffer.concat([Uint8Array.of(serverUpdates), isPartial ? name.subarray(0, -1) : name]);
}

export const optionsOfDhcp6: OptionKind = {
  path: "ipv6.",
  /** As in dhcp-options(5), without "dhcp6." in front. */
  names: {
    "client-id": Option.ClientIdentifier,
    "user-class": Option.UserClass,
    "vendor-class": Option.VendorClass,
    "name-servers": Option.NameServers,
    "domain-search": Option.DomainSearch,
    "sntp-servers": Option.SntpServers,
    fqdn: Option.FullyQualifiedName,
    "ntp-servers": Option.NtpServer,
  },
  highest: 0xffff,
  own: [
    Option.ServerIdentifier,
    Option.Association,
    Option.TemporaryAssociation,
    Option.AssociatedAddress,
    Option.OptionRequest,
    Option.Preference,
    Option.ElapsedTime,
    Option.RelayMessage,
    Option.Authentication,
    Option.ServerUnicast,
    Option.StatusCode,
    Option.RapidCommit,
    Option.InterfaceId,
    Option.ReconfigureMessage,
    Option.ReconfigureAccept,
    Option.PrefixDelegation,
    Option.DelegatedPrefix,
    Option.LongestSolicitPause,
  ],
  usual: [Option.NameServers, Option.DomainSearch],
  encode,
};
