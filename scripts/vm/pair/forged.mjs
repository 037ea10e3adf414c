// A packet that somebody makes up.

/**
 * What UDP carries of a ping by VXLAN (RFC 7348, section 5), from nobody.
 * @param {{ vni: number, mac: string, to: string }} where `mac`: of the router or container; `to`: IPv4 address
 * @returns {Buffer}
 */
export function vxlanPing({ vni, mac, to }) {
  const icmp = Buffer.from([8, 0, 0, 0, 0, 7, 0, 1, ...Buffer.from("made up")]);
  icmp.writeUInt16BE(checksum(icmp), 2);
  const ip = Buffer.from([
    0x45,
    0,
    0,
    0,
    0,
    1,
    0,
    0,
    64,
    1,
    0,
    0,
    10,
    200,
    0,
    9,
    ...to.split(".").map(Number),
  ]);
  ip.writeUInt16BE(ip.length + icmp.length, 2);
  ip.writeUInt16BE(checksum(ip), 10);
  const ethernet = Buffer.from(`${mac.replaceAll(":", "")}0200000000ee0800`, "hex");
  const vxlan = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0]);
  vxlan.writeUIntBE(vni, 4, 3);
  return Buffer.concat([vxlan, ethernet, ip, icmp]);
}

/** Of the Internet: RFC 1071. */
function checksum(bytes) {
  let sum = 0;
  for (const [at, byte] of bytes.entries()) sum += at % 2 === 0 ? byte << 8 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
