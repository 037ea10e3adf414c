// Records what the kernel of this machine says, and what iproute2 asks, as the .hex files beside this script:
//   node testing/captures/record.mjs
// Replies come from a netlink socket of our addon, before any decoder of ours; requests from strace. Each runs in a
// namespace of its own that is gone afterwards. Needs root, iproute2, strace and dist/lib/native.node.
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";

const addon = { exports: {} };
process.dlopen(addon, join(import.meta.dirname, "../../dist/lib/native.node"));
const native = addon.exports;

const wrapped = (bytes) =>
  Buffer.from(bytes)
    .toString("hex")
    .replace(/(.{64})(?=.)/g, "$1\n");

function save(name, comments, bytes) {
  const head = [...comments, `Linux ${release().split("-")[0]} ${process.arch}`]
    .map((line) => `# ${line.trim()}\n`)
    .join("");
  writeFileSync(join(import.meta.dirname, `${name}.hex`), `${head}${wrapped(bytes)}\n`);
}

function inNamespace(setup, act) {
  const path = `/run/netns-capture-${process.pid}`;
  native.createNamespace(path);
  const fd = openSync(path, "r");
  const shell = (script) =>
    execFileSync("nsenter", [`--net=${path}`, "sh", "-ec", script], { encoding: "utf8" });
  try {
    shell("ip link set lo up");
    if (setup) shell(setup);
    return act({ path, fd, shell });
  } finally {
    closeSync(fd);
    native.removeNamespace(path);
    rmSync(path, { force: true });
  }
}

function message(type, flags, body) {
  const bytes = Buffer.alloc(16 + body.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags, 6);
  bytes.writeUInt32LE(7, 8);
  Buffer.from(body).copy(bytes, 16);
  return bytes;
}

function exchange(fd, request) {
  const socket = native.netlinkOpen(fd, 0);
  try {
    return Buffer.from(native.netlinkExchange(socket.fd, request));
  } finally {
    closeSync(socket.fd);
  }
}

function split(bytes) {
  const messages = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    messages.push(bytes.subarray(at, at + length));
    at += (length + 3) & ~3;
  }
  return messages;
}

const REQUEST = 1;
const ACK = 4;
const DUMP = 0x300;
const family = (number, length) => Buffer.concat([Buffer.from([number]), Buffer.alloc(length - 1)]);
const containing = (text) => (m) => m.includes(Buffer.from(text));

/** name: [setup, [type, header], which message of the dump] */
const replies = {
  "link-lo": ["", [18, family(0, 16)], () => true],
  "link-bridge": [
    "ip link add br0 type bridge ageing_time 12300 priority 4096; ip link set br0 address 02:00:00:00:00:01 up",
    [18, family(0, 16)],
    containing("br0\0"),
  ],
  "link-veth-port": [
    `ip link add br0 type bridge; ip link add veth0 type veth peer eth0; ip link set veth0 master br0 alias "a port"
     ip link property add dev veth0 altname other-name-of-veth0
     ip link set veth0 type bridge_slave hairpin on isolated on learning off; ip link set veth0 group 17 up`,
    [18, family(0, 16)],
    containing("veth0\0"),
  ],
  "link-vxlan": [
    "ip link add vx0 type vxlan id 42 local 192.0.2.1 dstport 4789 nolearning ttl 64",
    [18, family(0, 16)],
    containing("vx0\0"),
  ],
  "link-macvlan": [
    "ip link add up0 type veth peer up1; ip link add mac0 link up0 type macvlan mode bridge",
    [18, family(0, 16)],
    containing("mac0\0"),
  ],
  "link-tap": ["ip tuntap add mode tap tap0", [18, family(0, 16)], containing("tap0\0")],
  "address-v4": [
    "ip link add a0 type veth peer b0; ip addr add 10.1.2.3/24 brd + dev a0 label a0:x metric 7",
    [22, family(2, 8)],
    containing("a0:x"),
  ],
  "address-v6": [
    "ip link add a0 type veth peer b0; ip addr add 2001:db8::1/64 dev a0 nodad valid_lft 1000 preferred_lft 900",
    [22, family(10, 8)],
    containing([0x20, 0x01, 0x0d, 0xb8]),
  ],
  "route-v4": [
    `ip link add a0 type veth peer b0; ip link set a0 up; ip addr add 10.0.0.1/24 dev a0
     ip route add 10.5.0.0/16 via 10.0.0.254 src 10.0.0.1 metric 50 mtu 1400 advmss 1300 table 1000 proto static`,
    [26, family(2, 12)],
    containing([10, 5, 0, 0]),
  ],
  "route-v4-multipath": [
    `ip link add a0 type veth peer b0; ip link set a0 up; ip addr add 10.0.0.1/24 dev a0
     ip route add 10.6.0.0/16 nexthop via 10.0.0.2 weight 1 nexthop via 10.0.0.3 weight 5`,
    [26, family(2, 12)],
    containing([10, 6, 0, 0]),
  ],
  "route-v4-via-v6": [
    `ip link add a0 type veth peer b0; ip link set a0 up; ip addr add 2001:db8::1/64 dev a0 nodad
     ip route add 10.7.0.0/16 via inet6 2001:db8::fe dev a0`,
    [26, family(2, 12)],
    containing([10, 7, 0, 0]),
  ],
  "route-v6-default": [
    `ip link add a0 type veth peer b0; ip link set a0 up; ip link set b0 up; ip addr add 2001:db8::1/64 dev a0 nodad
     ip -6 route add default via 2001:db8::fe`,
    [26, family(10, 12)],
    containing([0xfe, 0x08]) && ((m) => m.includes(Buffer.from("20010db80000000000000000000000fe", "hex"))),
  ],
  neighbor: [
    "ip link add a0 type veth peer b0; ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev a0 nud permanent",
    [30, family(2, 12)],
    containing([10, 0, 0, 9]),
  ],
  "fdb-vxlan": [
    `ip link add vx0 type vxlan id 42 dstport 4789
     bridge fdb append 02:00:00:00:00:07 dev vx0 dst 192.0.2.7 port 4790 vni 43`,
    [30, family(7, 12)],
    containing([192, 0, 2, 7]),
  ],
  rule: [
    `ip rule add pref 100 not from 10.0.0.0/8 to 192.0.2.0/24 iif eth7 fwmark 0x10/0xff table 1000 \
     suppress_prefixlength 0 ipproto tcp dport 80-90 protocol static`,
    [34, family(2, 12)],
    containing("eth7"),
  ],
  "qdisc-tbf": [
    "ip link add a0 type veth peer b0; tc qdisc add dev a0 root tbf rate 1mbit burst 20000 limit 30000",
    [38, family(0, 20)],
    containing("tbf\0"),
  ],
};

for (const [name, [setup, [type, header], wanted]] of Object.entries(replies)) {
  inNamespace(setup, ({ fd }) => {
    const found = split(exchange(fd, message(type, REQUEST | DUMP, header))).find(
      (m) => m.readUInt16LE(4) >= 16 && wanted(m),
    );
    if (!found) throw new Error(`${name}: no such message`);
    save(name, [...setup.split(/;|\n/), `reply to a dump of type ${type}`].filter(Boolean), found);
  });
}

inNamespace("", ({ fd }) => {
  // RTM_NEWLINK, vxlan with a VNI of 25 bits
  const data = Buffer.from("0800010000000001", "hex");
  const kind = Buffer.from("0a00010076786c616e000000", "hex");
  const dataAttribute = Buffer.concat([Buffer.from([4 + data.length, 0, 2, 0x80]), data]);
  const info = Buffer.concat([
    Buffer.from([4 + kind.length + dataAttribute.length, 0, 18, 0x80]),
    kind,
    dataAttribute,
  ]);
  const refused = exchange(fd, message(16, REQUEST | ACK | 0x600, Buffer.concat([Buffer.alloc(16), info])));
  save(
    "error-with-text",
    ["ip link add type vxlan id 16777216", "its NLMSG_ERROR, capped, with attributes"],
    refused,
  );
  const missing = Buffer.concat([Buffer.alloc(16), Buffer.from("090003006e6f706500000000", "hex")]);
  save(
    "error-plain",
    ["ip link del nope", "its NLMSG_ERROR"],
    exchange(fd, message(17, REQUEST | ACK, missing)),
  );
  save(
    "ack",
    ["ip link set lo up", "its NLMSG_ERROR of 0"],
    exchange(fd, message(16, REQUEST | ACK, Buffer.from("00000000010000000100000001000000", "hex"))),
  );
});

/** name: [setup, command whose last request is kept]. The kernel need not know the kind. */
const requests = {
  "request-vlan": [
    "ip link add up0 type veth peer up1",
    "ip link add link up0 name up0.5 type vlan id 5 protocol 802.1ad",
  ],
  "request-ipvlan": [
    "ip link add up0 type veth peer up1",
    "ip link add link up0 name ipv0 type ipvlan mode l3 private",
  ],
  "request-vrf": ["", "ip link add vrf0 type vrf table 100"],
  "request-dummy": ["", "ip link add dummy0 mtu 1400 type dummy"],
  "request-veth": [
    "",
    "ip link add veth0 mtu 1400 type veth peer name eth0 address 02:00:00:00:00:02 mtu 1400",
  ],
  "request-vxlan": [
    "",
    "ip link add vx0 type vxlan id 42 local 192.0.2.1 dstport 4789 nolearning ttl 64 srcport 40000 50000",
  ],
  "request-bridge-port": [
    "ip link add br0 type bridge; ip link add a0 type veth peer b0; ip link set a0 master br0",
    "ip link set a0 type bridge_slave hairpin on isolated on learning off",
  ],
  "request-bridge-vlan-add": ["ip link add a0 type veth peer b0", "bridge vlan add dev a0 vid 10-20"],
  "request-bridge-vlan-pvid": [
    "ip link add a0 type veth peer b0",
    "bridge vlan add dev a0 vid 5 pvid untagged",
  ],
  "request-bridge-vlan-self": ["ip link add a0 type bridge", "bridge vlan del dev a0 vid 5 self"],
  "request-address": [
    "ip link add a0 type veth peer b0",
    "ip addr add 10.1.2.3/24 broadcast 10.1.2.255 dev a0 noprefixroute",
  ],
  "request-route": [
    "ip link add a0 type veth peer b0; ip link set a0 up",
    "ip route append 10.5.0.0/16 via 10.0.0.254 dev a0 onlink metric 50 mtu 1400 table 1000 proto static",
  ],
  "request-rule": [
    "",
    "ip rule add pref 100 from 10.0.0.0/8 fwmark 0x10/0xff table 1000 suppress_prefixlength 0",
  ],
  "request-neighbor": [
    "ip link add a0 type veth peer b0",
    "ip neigh replace 10.0.0.9 lladdr 02:00:00:00:00:09 dev a0",
  ],
  "request-fdb": [
    "ip link add vx0 type vxlan id 42 dstport 4789",
    "bridge fdb append 02:00:00:00:00:07 dev vx0 dst 192.0.2.7 port 4790 vni 43",
  ],
};

for (const [name, [setup, command]] of Object.entries(requests)) {
  inNamespace(setup, ({ path }) => {
    const traced = ["-e", "trace=sendmsg", "-e", "write=all", ...command.split(" ")];
    const { stderr } = spawnSync("nsenter", [`--net=${path}`, "strace", ...traced], { encoding: "utf8" });
    const dumps = stderr.split(/^sendmsg\(/m).slice(1);
    const bytes = dumps.map((dump) =>
      Buffer.from(
        [...dump.matchAll(/^ \| [0-9a-f]{5} {2}((?:[0-9a-f]{2} {1,2}){1,16})/gm)]
          .map((m) => m[1].replaceAll(" ", ""))
          .join(""),
        "hex",
      ),
    );
    const last = bytes.findLast((b) => b.length > 0 && b.readUInt32LE(0) <= b.length);
    if (!last) throw new Error(`${name}: strace showed no request\n${stderr}`);
    save(
      name,
      [...setup.split("; "), `request of: ${command}`].filter(Boolean),
      last.subarray(0, last.readUInt32LE(0)),
    );
  });
}
