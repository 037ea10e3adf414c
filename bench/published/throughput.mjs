// What a published port costs each packet: ours, with 1 and with 10,000 ports, beside one DNAT rule made by hand.
import { percentile } from "../statistics.mjs";
import { callChain, inside, Lab, publishingChain, script } from "./network.mjs";

const port = 8080;
const kinds = [
  ["stream", "one TCP stream, Gbit/s"],
  ["packets", "datagrams of 64 bytes that arrive, a second"],
  ["connects", "TCP connections made and closed, a second"],
];

/** The same links as the bridge plugin makes, and one rule. */
function byHand(lab, container) {
  script(
    lab.host,
    `ip link add bench0 type bridge; ip link set bench0 up; ip addr add 10.66.0.1/16 dev bench0
     ip link add veth1 master bench0 type veth peer name eth0 netns ${container}; ip link set veth1 up
     nft add table ip nat; nft add chain ip nat pre '{ type nat hook prerouting priority -100; }'
     nft add rule ip nat pre ip daddr 192.0.2.1 meta l4proto { tcp, udp } th dport ${port} dnat to 10.66.0.2:80`,
  );
  script(
    container,
    "ip link set eth0 up; ip addr add 10.66.0.2/16 dev eth0; ip route add default via 10.66.0.1",
  );
}

const both = (hostPort, containerPort) =>
  ["tcp", "udp"].map((protocol) => ({ hostPort, containerPort, protocol }));

function byUs(bin, others) {
  return (lab, container) => {
    const chain = publishingChain(lab);
    callChain(lab, bin, chain, { verb: "ADD", container, id: "target", portMappings: both(port, 80) });
    // A thousand each, none of them part of a range.
    for (let done = 0; done < others; done += 1000) {
      const portMappings = Array.from({ length: 1000 }, (_, index) => ({
        hostPort: 10_000 + done + index,
        containerPort: 80 + ((index * 7) % 50),
        protocol: "tcp",
      }));
      const other = lab.namespace(`o${done}`);
      callChain(lab, bin, chain, { verb: "ADD", container: other, id: `other${done}`, portMappings });
    }
  };
}

/**
 * Many short slices, in rounds in which each subject has its turn, and each is first in its turn. What counts is the
 * rate that a tenth of a subject's slices reach: whatever else the machine does only takes away.
 * @returns rows: what, by subject that rate, and ours divided by the rule made by hand
 */
export async function measureThroughput({ bin, flow, rounds, forMs, say }) {
  const subjects = [
    { name: "one rule by hand", set: byHand },
    { name: "ours", set: byUs(bin, 0) },
    { name: "ours, 10,000 ports", set: byUs(bin, 10_000) },
  ];
  const labs = [];
  try {
    for (const subject of subjects) {
      const lab = new Lab("t");
      labs.push(lab);
      const container = lab.namespace("c");
      subject.set(lab, container);
      await lab.serve(container, flow, ["server", "80"]);
      subject.lab = lab;
      subject.values = new Map(kinds.map(([kind]) => [kind, []]));
    }
    let order = subjects;
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      for (const [kind] of kinds) {
        for (const { lab, values } of order) {
          const value = Number(inside(lab.lan, flow, [kind, "192.0.2.1", String(port), String(forMs)]));
          if (round > 0) values.get(kind).push(value);
        }
      }
      order = [...order.slice(1), order[0]];
      if (round % 10 === 0) say(`throughput: round ${round} of ${rounds}`);
    }
    return kinds.map(([kind, title]) => {
      const [hand, ...ours] = subjects.map(({ values }) => percentile(values.get(kind), 0.9));
      return { title, rates: [hand, ...ours], ratios: ours.map((rate) => rate / hand) };
    });
  } finally {
    for (const lab of labs) lab.close();
  }
}
