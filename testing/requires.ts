import { execFileSync } from "node:child_process";
import { test } from "vitest";
import allowed from "./allowed-skips.json" with { type: "json" };
import { kubeApiserver, kubectl } from "./kubernetes-server.ts";
import { TestNamespace } from "./test-namespace.ts";

/** What a test may need of the kernel, and how iproute2 finds out whether it is there. `up0` is one end of a veth. */
const probes = {
  dummy: "ip link add probe type dummy",
  "8021q": "ip link add link up0 name probe type vlan id 5",
  macvlan: "ip link add link up0 name probe type macvlan",
  ipvlan: "ip link add link up0 name probe type ipvlan",
  vxlan: "ip link add probe type vxlan id 5 dstport 4789",
  vrf: "ip link add probe type vrf table 100",
  ifb: "ip link add probe type ifb",
  tun: "ip tuntap add mode tap probe",
  tbf: "tc qdisc add dev up0 root tbf rate 1mbit burst 20000 limit 30000",
  htb: "tc qdisc add dev up0 root htb",
  u32: "tc qdisc add dev up0 ingress && tc filter add dev up0 ingress u32 match u32 0 0 flowid 1:1",
  mirred:
    "tc qdisc add dev up0 ingress && tc filter add dev up0 ingress u32 match u32 0 0 action mirred egress redirect dev down0",
  "bridge-vlan-filtering": "ip link add probe type bridge vlan_filtering 1",
  "iptables-legacy": "iptables-legacy -S",
  wireguard: "ip link add probe type wireguard",
  "wireguard-go": "command -v wireguard-go",
  ufw: 'command -v ufw || test -x "$NETCTL_UFW_ROOT/usr/sbin/ufw"',
  firewalld: "command -v firewalld && command -v firewall-cmd && command -v dbus-daemon",
  // podman 5 has no CNI any more.
  podman:
    "podman --version | grep -q ' 4[.]' && command -v conmon && command -v runc && test -x /bin/busybox",
  "kube-apiserver": `test -x '${kubeApiserver}' && test -x '${kubectl}' && command -v etcd`,
  multipath: "ip link set up0 up && ip route add 10.9.0.0/16 nexthop dev up0 nexthop dev down0",
} as const;

export type Feature = keyof typeof probes;

const known = new Map<Feature, boolean>();

/** Whether this kernel has it; asked once per process. */
export function hasFeature(feature: Feature): boolean {
  const before = known.get(feature);
  if (before !== undefined) return before;
  const namespace = TestNamespace.create("probe");
  try {
    namespace.run("ip link add up0 type veth peer down0; ip link set up0 up; ip link set down0 up");
    const found = succeeds(namespace.path, probes[feature]);
    known.set(feature, found);
    return found;
  } finally {
    namespace.remove();
  }
}

function succeeds(netns: string, script: string): boolean {
  try {
    execFileSync("nsenter", [`--net=${netns}`, "sh", "-ec", script], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * `test` for a kernel that has all of `features`. A kernel without one of them skips it, and the test's name tells why;
 * but only where testing/allowed-skips.json lists the feature: otherwise the test fails, so that a kernel which lost
 * something does not look like one on which everything is fine.
 */
export function testWith(features: readonly Feature[], name: string, body: () => void | Promise<void>): void {
  const lacking = features.filter((feature) => !hasFeature(feature));
  const refused = lacking.filter((feature) => !(feature in allowed));
  if (refused.length > 0) {
    test(name, () => {
      throw new Error(
        `This kernel lacks ${refused.join(", ")}, and testing/allowed-skips.json does not list that`,
      );
    });
  } else if (lacking.length > 0) {
    test.skip(`${name} [this kernel lacks ${lacking.join(", ")}]`, body);
  } else {
    test(name, body);
  }
}
