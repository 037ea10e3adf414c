declare const macBrand: unique symbol;

/** 48-bit Ethernet address in lower case with colons: `02:42:0a:00:00:01`. Comparable with `===`. */
export type MacAddress = string & { readonly [macBrand]: true };

/**
 * Reads `aa:bb:cc:dd:ee:ff`, `AA-BB-CC-DD-EE-FF` or `aabb.ccdd.eeff`, as Go's net.ParseMAC does.
 * @throws {RangeError}
 */
export function parseMac(text: string): MacAddress {
  const parts =
    /^(?:[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2})$/i.test(
      text,
    )
      ? text.toLowerCase().match(/[0-9a-f]{2}/g)
      : undefined;
  if (!parts) throw new RangeError(`Cannot parse MAC address ${JSON.stringify(text)}`);
  return parts.join(":") as MacAddress;
}

/** 6 bytes in the order of transmission. */
export function macToBytes(mac: MacAddress): Uint8Array {
  const bytes = new Uint8Array(6);
  for (let at = 0; at < 6; at++) bytes[at] = (digit(mac, 3 * at) << 4) | digit(mac, 3 * at + 1);
  return bytes;
}

/** Of a hexadecimal digit in lower case. */
function digit(mac: MacAddress, at: number): number {
  const code = mac.charCodeAt(at);
  return code < 0x3a ? code - 0x30 : code - 0x57;
}

const twoDigits = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** @throws {RangeError} if there are not 6 bytes */
export function macFromBytes(bytes: Uint8Array): MacAddress {
  if (bytes.length !== 6)
    throw new RangeError(`Cannot read MAC address from ${bytes.length} bytes: must be 6`);
  let text = twoDigits[bytes[0] ?? 0] ?? "";
  for (let at = 1; at < 6; at++) text += `:${twoDigits[bytes[at] ?? 0]}`;
  return text as MacAddress;
}

/** A random locally administered unicast address (IEEE 802 section 8.4: second bit set, lowest bit clear). */
export function randomMac(): MacAddress {
  const bytes = new Uint8Array(6);
  for (let at = 0; at < 6; at++) bytes[at] = Math.floor(Math.random() * 256);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return macFromBytes(bytes);
}

/** True for group addresses, broadcast included: no interface can have one as its own. */
export function isMulticastMac(mac: MacAddress): boolean {
  return ((macToBytes(mac)[0] ?? 0) & 1) === 1;
}

/** 00:00:00:00:00:00, which stands for "none": no interface can have it as its own. */
export function isZeroMac(mac: MacAddress): boolean {
  return mac === "00:00:00:00:00:00";
}
