import { Option } from "#dhcp/v4/message.ts";
import type { OptionKind } from "./options.ts";

const maxValueBytes = 255;

/** A client identifier begins with its type; 0 says that it is no hardware address (RFC 2132 section 9.14). */
function encode(code: number, text: string): Uint8Array | string {
  const bytes = Buffer.from(text);
  if (bytes.length > maxValueBytes) return `: it has ${bytes.length} bytes, ${maxValueBytes} is the most`;
  return code === Option.ClientIdentifier ? Buffer.concat([Uint8Array.of(0), bytes]).subarray(0, 255) : bytes;
}

export const optionsOfDhcp4: OptionKind = {
  path: "",
  /** Names that the reference knows, and the usual ones of dhcp-options(5) besides. */
  names: {
    "subnet-mask": Option.SubnetMask,
    routers: Option.Router,
    "domain-name-servers": Option.DomainNameServer,
    "host-name": Option.HostName,
    "domain-name": Option.DomainName,
    "interface-mtu": Option.InterfaceMtu,
    "static-routes": Option.StaticRoute,
    "vendor-class-identifier": Option.VendorClass,
    "dhcp-client-identifier": Option.ClientIdentifier,
    "user-class": Option.UserClass,
    "domain-search": Option.DomainSearch,
    "classless-static-routes": Option.ClasslessRoutes,
  },
  highest: 254,
  own: [],
  /** The reference asks for the first two alone. */
  usual: [
    Option.SubnetMask,
    Option.Router,
    Option.ClasslessRoutes,
    Option.StaticRoute,
    Option.DomainNameServer,
    Option.DomainName,
    Option.DomainSearch,
  ],
  encode,
};
