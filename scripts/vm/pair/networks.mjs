// The networks over both hosts, a container of each on each, and what one container says to another.
import { secret } from "./wire.mjs";

/** What the packets of each are wrapped in takes: VXLAN over IPv4 50; over IPv6 70, in WireGuard over IPv4 60. */
export const networks = [
  { name: "plain", options: "", isEncrypted: false, mtu: 1450 },
  { name: "flat", options: "-o mode=l2", isEncrypted: false, mtu: 1450 },
  { name: "secret", options: "--opt encrypted", isEncrypted: true, mtu: 1370 },
  { name: "hidden", options: "--opt encrypted -o mode=l2", isEncrypted: true, mtu: 1370 },
];

/** Container of a network on a host. */
export const nameOf = (network, host) => `${network.name}${host.number}`;

const hex = Buffer.from(secret).toString("hex");

/** Whether pings get there and back. @param {string} target name or address of another container */
export async function pings(host, sandbox, target, options = "-c2 -i0.3 -W20") {
  const ping = `ping -p ${hex} ${options} ${target}`;
  // Names need the sandbox's own resolv.conf.
  const isAddress = /^[\d.]+$|:/.test(target);
  return await host.succeeds(
    isAddress ? host.inside(sandbox, ping) : `netctl sandbox exec ${sandbox} -- ${ping}`,
  );
}

/** The container's only interface: address of each family, MAC address, MTU. */
export async function interfaceOf(host, sandbox) {
  const [link] = await host.json(host.inside(sandbox, "ip -j address show eth0"));
  const of = (family) =>
    link.addr_info.find((each) => each.family === family && each.scope === "global")?.local;
  return { v4: of("inet"), v6: of("inet6"), mac: link.address, mtu: link.mtu };
}

/**
 * A megabyte by TCP, found by name. @throws {Error} unless it gets there whole
 * @param from host and @param to host, each with its container of the network
 */
export async function send(network, from, to, family) {
  const [sender, receiver] = [nameOf(network, from), nameOf(network, to)];
  const got = `/run/pair/got-${receiver}`;
  const { v4, v6 } = await interfaceOf(to, receiver);
  const at = family === 4 ? v4 : v6;
  await to.text(`rm -f ${got}`);
  const pid = await to.start(to.inside(receiver, "busybox nc -l -p 7000"), got);
  await to.until(`${receiver} listens`, async () =>
    (await to.text(to.inside(receiver, "ss -Hltn"))).includes(":7000"),
  );
  const found = await from.text(`netctl sandbox exec ${sender} -- getent ahostsv${family} ${receiver}`);
  if (!found.startsWith(`${at} `)) throw new Error(`${sender} finds ${receiver} at "${found}", not ${at}`);
  const give = `yes ${secret} | head -c 1048576 > /dev/tcp/${at}/7000`;
  await from.text(`netctl sandbox exec ${sender} -- bash -c '${give}'`);
  await to.text(`while [ -d /proc/${pid} ]; do sleep 0.2; done`);
  const [sum] = (await to.text(`sha256sum ${got}`)).split(" ");
  const [wanted] = (await from.text(`yes ${secret} | head -c 1048576 | sha256sum`)).split(" ");
  if (sum !== wanted) throw new Error(`${receiver} got something else than ${sender} has sent`);
}
