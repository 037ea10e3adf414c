import { describe, expect, it } from "vitest";
import type { Network } from "#netctl/network/listing.ts";
import { noSettings } from "#runtime/sandbox-settings.ts";
import { hashLabel, hashOf, type Present, projectLabel, reconcile, takeAway } from "./actions.ts";
import { readCompose } from "./read.ts";

const read = (text: string, options: Partial<Parameters<typeof readCompose>[1]> = {}) =>
  readCompose(text, { variables: { V: "9" }, directory: "/srv/My Shop", profiles: [], ...options });

describe("readCompose()", () => {
  it("reads networks and services as far as networks go", () => {
    const project = read(`
x-common: &common
  dns: 9.9.9.9
  networks: {front: {priority: 1, aliases: [api, "web\${V}"], ipv4_address: 10.1.0.9, ipv6_address: "fd01::9", mac_address: 02:00:00:00:00:09, gw_priority: 5, interface_name: lan0}, back: {priority: 10}}
services:
  web:
    <<: *common
    image: anything
    hostname: w
    dns_search: [a.test]
    dns_opt: ["ndots:1"]
    extra_hosts: {db: 10.9.9.9}
    sysctls: ["net.ipv4.ip_forward=0", kernel.shmmax=5]
    ports: [80, "8080:80/udp", {target: 443, published: "8443", host_ip: "::1", protocol: tcp}]
  job: {network_mode: none, scale: 2}
  tool: {network_mode: host, container_name: tool}
  debug: {profiles: [debug]}
  plain: {}
networks:
  front: {driver_opts: {com.docker.network.driver.mtu: 1400}, internal: "true", enable_ipv6: true, labels: [a=b], ipam: {config: [{subnet: 10.1.0.0/24, gateway: 10.1.0.254, ip_range: 10.1.0.128/25, aux_addresses: {r: 10.1.0.5}}, {subnet: "fd01::/64"}]}}
  back: {external: true, name: shared}
volumes: {x: {}}
`);
    expect(project.name).toBe("myshop");
    expect(project.unsupported).toEqual([]);
    expect(project.networks.map(({ name }) => name)).toEqual(["myshop_front", "shared", "myshop_default"]);
    expect(project.networks[0]).toMatchObject({
      internal: true,
      ipv6: true,
      options: { "com.docker.network.driver.mtu": "1400" },
      labels: { a: "b" },
      subnets: [
        {
          subnet: "10.1.0.0/24",
          gateway: "10.1.0.254",
          ipRange: "10.1.0.128/25",
          auxAddresses: ["r=10.1.0.5"],
        },
        { subnet: "fd01::/64", auxAddresses: [] },
      ],
    });
    const [web, job, tool, plain] = project.services;
    expect(web?.networks).toEqual([
      {
        network: "shared",
        aliases: ["web"],
        ips: [],
        mac: undefined,
        gatewayPriority: 0,
        interfaceName: undefined,
      },
      {
        network: "myshop_front",
        aliases: ["web", "api", "web9"],
        ips: ["10.1.0.9", "fd01::9"],
        mac: "02:00:00:00:00:09",
        gatewayPriority: 5,
        interfaceName: "lan0",
      },
    ]);
    expect(web).toMatchObject({
      hostname: "w",
      dns: ["9.9.9.9"],
      dnsSearch: ["a.test"],
      dnsOptions: ["ndots:1"],
      extraHosts: ["db:10.9.9.9"],
      sysctls: ["net.ipv4.ip_forward=0"],
      ports: ["80", "8080:80/udp", "[::1]:8443:443/tcp"],
    });
    expect(job).toMatchObject({ sandboxes: ["myshop-job-1", "myshop-job-2"], networks: [] });
    expect(tool).toMatchObject({ sandboxes: ["tool"], networks: [{ network: "host" }] });
    expect(plain).toMatchObject({
      key: "plain",
      networks: [{ network: "myshop_default", aliases: ["plain"] }],
    });
    expect(read("services: {debug: {profiles: [debug]}}", { profiles: ["debug"] }).services).toHaveLength(1);
  });

  it("names what bears on networks and is not served", () => {
    const { unsupported } = read(
      "include: [x]\nservices: {a: {links: [b], networks: {default: {link_local_ips: [169.254.1.1]}}}}\nnetworks: {default: {}}",
    );
    expect(unsupported).toEqual([
      "include",
      "services.a.links",
      "services.a.networks.default.link_local_ips",
    ]);
  });

  it.each([
    ["services: [", "Cannot use the Compose file"],
    ["services: {a: {networks: [nope]}}", "services.a.networks.nope: there is no such network"],
    ["services: {a: {network_mode: service:b}}", 'services.a.network_mode "service:b"'],
    ["services: {a: {scale: -1}}", "services.a.scale -1"],
    ["services: {a: {container_name: x, scale: 2}}", "services.a.container_name"],
    ["services: {a: {ports: 80}}", "services.a.ports 80: expected a list"],
    ["services: {a: {ports: [{published: 1}]}}", "services.a.ports[0].target"],
    ["networks: {a: {internal: maybe}}", 'networks.a.internal "maybe"'],
    ["networks: {a: {ipam: {config: {}}}}", "networks.a.ipam.config"],
    ["services: {a: {networks: {default: {gw_priority: high}}}}\nnetworks: {default: }", "gw_priority"],
    ["name: Not Good", 'project name "Not Good"'],
    ["services: {a: {hostname: '${NOPE:?say so}'}}", "Cannot interpolate ${NOPE}: say so"],
  ])("refuses %s", (text, message) => {
    expect(() => read(text)).toThrow(message);
  });
});

describe("reconcile()", () => {
  const project = read(
    "services: {a: {}, b: {networks: {default: {ipv4_address: 10.1.0.9}}}}\nnetworks: {default: {}}",
  );
  const [network] = project.networks;
  const nothing: Present = { networks: [], sandboxes: [] };
  const steps = (present: Present, prune = false) =>
    reconcile(project, present, { prune }).actions.map(
      ({ action, kind, name }) => `${action} ${kind} ${name}`,
    );
  const sandbox = (name: string, hash: string, owner = "myshop") => ({
    name,
    containerId: name,
    netns: "",
    createdAt: "",
    state: "ready" as const,
    attachments: [],
    ports: [],
    settings: { ...noSettings, labels: { [projectLabel]: owner, [hashLabel]: hash } },
  });
  const hashes = project.services.map(hashOf);
  const made: Present = {
    networks: [
      {
        name: "myshop_default",
        notes: { labels: { [projectLabel]: "myshop", [hashLabel]: network ? hashOf(network) : "" } },
      },
    ] as unknown as readonly Network[],
    sandboxes: [sandbox("myshop-a-1", hashes[0] ?? ""), sandbox("myshop-b-1", hashes[1] ?? "")],
  };

  it("makes networks first, and addresses that are asked for before others take them", () => {
    expect(steps(nothing)).toEqual([
      "create network myshop_default",
      "create sandbox myshop-b-1",
      "create sandbox myshop-a-1",
    ]);
  });
  it("touches nothing that is as the file says", () => {
    expect(steps(made)).toEqual([]);
  });
  it("makes anew what is otherwise, and prunes only what it is told to", () => {
    const present = {
      ...made,
      sandboxes: [sandbox("myshop-a-1", "other"), ...made.sandboxes.slice(1), sandbox("myshop-old-1", "x")],
    };
    expect(steps(present)).toEqual(["remove sandbox myshop-a-1", "create sandbox myshop-a-1"]);
    expect(reconcile(project, present, { prune: false }).orphans).toEqual(["myshop-old-1"]);
    expect(steps(present, true)).toContain("remove sandbox myshop-old-1");
    expect(takeAway("myshop", present)).toHaveLength(4);
  });
  it("leaves alone what is somebody else's", () => {
    expect(() => steps({ ...nothing, sandboxes: [sandbox("myshop-a-1", "x", "other")] })).toThrow(
      "Cannot use sandbox myshop-a-1: it is of project other",
    );
  });
});
