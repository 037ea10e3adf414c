// netavark's setup and teardown beside our ADD and DEL of the same: a bridge, masquerading, one published port.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { median, percentile } from "../statistics.mjs";
import { callChain, Lab, publishingChain } from "./network.mjs";

export const netavark = "/usr/lib/podman/netavark";

/** What podman gives it. */
function request(index) {
  return JSON.stringify({
    container_id: index.toString(16).padStart(64, "0"),
    container_name: `c${index}`,
    networks: { bench: { static_ips: [`10.67.0.${2 + (index % 200)}`], interface_name: "eth0" } },
    network_info: {
      bench: {
        name: "bench",
        id: "b".padEnd(64, "0"),
        driver: "bridge",
        network_interface: "bench0",
        created: "2024-01-01T00:00:00Z",
        subnets: [{ subnet: "10.67.0.0/16", gateway: "10.67.0.1" }],
        ipv6_enabled: false,
        internal: false,
        dns_enabled: false,
        ipam_options: { driver: "host-local" },
      },
    },
    port_mappings: [
      { container_port: 80, host_ip: "", host_port: 20_000 + index, protocol: "tcp", range: 1 },
    ],
  });
}

const peer = {
  name: "netavark",
  call(lab, verb, container, index) {
    const command = verb === "ADD" ? "setup" : "teardown";
    const args = [`--net=/run/netns/${lab.host}`, netavark, "-c", lab.directory, command];
    execFileSync("nsenter", [...args, `/run/netns/${container}`], {
      input: request(index),
      env: lab.environment,
      stdio: ["pipe", "pipe", "pipe"],
    });
  },
};

const ours = (bin) => ({
  name: "ours",
  results: new Map(),
  call(lab, verb, container, index) {
    const portMappings = [{ hostPort: 20_000 + index, containerPort: 80, protocol: "tcp" }];
    const result = this.results.get(index);
    const id = `c${index}`;
    const answer = callChain(lab, bin, publishingChain(lab), { verb, container, id, portMappings, result });
    if (verb === "ADD") this.results.set(index, answer);
    else this.results.delete(index);
  },
});

/** One other container stays meanwhile: without any, netavark takes its bridge and chains away each time. */
export function measureNetavark({ bin, count, say }) {
  if (!existsSync(netavark)) return undefined;
  const subjects = [ours(bin), peer];
  const labs = [];
  try {
    for (const subject of subjects) {
      const lab = new Lab("n");
      labs.push(lab);
      subject.lab = lab;
      subject.times = { ADD: [], DEL: [] };
      subject.call(lab, "ADD", lab.namespace("k"), 1);
      // A warm service comes up with the first call.
      for (let warm = 0; warm < 3; warm++) {
        const container = lab.namespace(`w${warm}`);
        subject.call(lab, "ADD", container, 10 + warm);
        subject.call(lab, "DEL", container, 10 + warm);
      }
    }
    for (let index = 0; index < count; index++) {
      for (const subject of index % 2 === 0 ? subjects : subjects.toReversed()) {
        const container = subject.lab.namespace(`c${index}`);
        for (const verb of ["ADD", "DEL"]) {
          const start = performance.now();
          subject.call(subject.lab, verb, container, 100 + index);
          subject.times[verb].push(performance.now() - start);
        }
      }
    }
    say(`netavark: ${count} pairs of each`);
    return ["ADD", "DEL"].map((verb) => {
      const [own, other] = subjects.map(({ times }) => ({
        median: median(times[verb]),
        p95: percentile(times[verb], 0.95),
      }));
      return { verb, ours: own, netavark: other, ratio: other.median / own.median };
    });
  } finally {
    for (const lab of labs) lab.close();
  }
}
