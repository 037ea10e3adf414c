import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addressesOf, NamesRig } from "#testing/names-rig.ts";
import { type BuiltService, buildService, exitCodeOf } from "#testing/netd-lab.ts";

let service: BuiltService;
let rig: NamesRig;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  rig = new NamesRig(service);
  await rig.startNetd();
});
afterEach(async () => {
  await rig.remove();
});

describe("names", () => {
  test("containers of one network find each other, by every client that there is", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const db = await rig.container("db", { names: ["db", "Primary"] });
    const [four = "", six = ""] = addressesOf(db);
    expect(web.results["net1"]?.dns).toEqual({ nameservers: ["127.0.0.11"] });
    for (const name of ["db", "DB", "db.", "db.net1", "primary", "db.NET1."]) {
      expect(rig.dig(web, name), name).toEqual([four]);
      expect(rig.dig(web, `${name} AAAA`), name).toEqual([six]);
      expect(rig.dig(web, `+tcp ${name}`), name).toEqual([four]);
    }
    expect(rig.dig(web, `-x ${four}`)).toEqual(["db.net1."]);
    expect(rig.dig(web, `-x ${six}`)).toEqual(["db.net1."]);
    // musl, which asks for both families at once.
    const musl = web.namespace.run("busybox nslookup db 127.0.0.11");
    expect(musl).toContain(four);
    expect(musl).toContain(six);
    // glibc, with a resolv.conf of the container.
    const inContainer = (command: string) =>
      execFileSync(
        "unshare",
        [
          "--mount",
          "sh",
          "-ec",
          `
        printf 'nameserver 127.0.0.11\\n' > ${rig.path("container.conf")}
        mount --bind ${rig.path("container.conf")} /etc/resolv.conf
        nsenter --net=${web.namespace.path} ${command}`,
        ],
        { encoding: "utf8" },
      );
    expect(inContainer("getent ahostsv4 db")).toContain(four);
    expect(inContainer("getent ahostsv6 db")).toContain(six);
    expect(inContainer(`getent hosts ${four}`)).toContain("db.net1");
    const script = `require("node:dns").promises.resolve4("db").then(console.log)`;
    expect(inContainer(`${process.execPath} -e '${script}'`)).toContain(four);
  });

  test("a name of a network that the container is not in does not exist", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const far = await rig.container("far", { names: ["far"], networks: ["net2"] });
    rig.setServers();
    expect(rig.dig(far, "web")).toEqual([]);
    expect(rig.dig(far, "web.net1")).toEqual([]);
    expect(rig.dig(web, "far")).toEqual([]);
    expect(rig.dig(web, "web")).toEqual([addressesOf(web)[0]]);
  });

  test("a shared alias has all addresses, in changing order, and those of all networks of the asker", async () => {
    const both = await rig.container("both", { networks: ["net1", "net2"] });
    const members = [
      await rig.container("a1", { names: ["api"] }),
      await rig.container("a2", { names: ["api"] }),
      await rig.container("a3", { names: ["api"] }),
    ];
    const other = await rig.container("b1", { names: ["api"], networks: ["net2"] });
    const expected = [...members.map((each) => addressesOf(each)[0]), addressesOf(other, "net2")[0]]
      .map(String)
      .sort();
    expect(rig.dig(both, "api")).toEqual(expected);
    expect(rig.dig(both, "api.net2")).toEqual([addressesOf(other, "net2")[0]]);
    const orders = new Set<string>();
    for (let count = 0; count < 40; count++) {
      orders.add(both.namespace.run("dig +short +noedns @127.0.0.11 api"));
    }
    expect(orders.size).toBeGreaterThan(1);
  });

  test("what a known name has not is NODATA with an SOA, from us, and asked of nobody else", async () => {
    const web = await rig.container("web", { names: ["web"] });
    for (const type of ["MX", "TXT", "HTTPS", "NS", "SOA", "CAA", "TYPE65280"]) {
      const answer = rig.digWhole(web, `web ${type}`);
      expect(answer, type).toMatch(/status: NOERROR/);
      expect(answer, type).toMatch(/flags: qr aa rd ra; QUERY: 1, ANSWER: 0, AUTHORITY: 1/);
      expect(answer, type).toContain("SOA");
    }
    expect(rig.digWhole(web, "web ANY")).toMatch(/ANSWER: 2,/);
    // One that has addresses of one family only.
    const { ips } = web.results["net1"] ?? { ips: [] };
    const old = rig.namespace("names-old");
    const prevResult = { ...web.results["net1"], ips: [{ ...ips[0], address: "10.1.1.99/24" }] };
    const config = rig.dnsConfig("net1", prevResult, { names: ["old"] });
    await rig.call("ADD", { plugin: "dns", containerId: "old", netns: old.path, config });
    expect(rig.dig(web, "old")).toEqual(["10.1.1.99"]);
    for (const options of ["", "+noedns", "+tcp"]) {
      const answer = rig.digWhole(web, `old AAAA ${options}`);
      expect(answer).toMatch(/status: NOERROR/);
      expect(answer).toMatch(/ANSWER: 0, AUTHORITY: 1/);
    }
    // Containers come and go: nobody is to keep any of that for long.
    for (const words of ["web", "web AAAA", "_8080._tcp.web SRV", "old AAAA", `-x ${addressesOf(web)[0]}`]) {
      const ttls = [...rig.digWhole(web, words).matchAll(/\s(\d+)\s+IN\s+(?:A|AAAA|SRV|SOA|PTR)\s/g)];
      expect(new Set(ttls.map(([, ttl]) => ttl)), words).toEqual(new Set(["5"]));
    }
    expect(rig.dig(web, "_8080._tcp.web SRV")).toEqual(["0 0 8080 web."]);
    expect(rig.digWhole(web, "_http._tcp.web SRV")).toMatch(/status: NXDOMAIN/);
    const [four = ""] = addressesOf(web);
    const neighbour = four.replace(/\d+$/, "77");
    expect(rig.digWhole(web, `-x ${neighbour}`)).toMatch(/status: NXDOMAIN/);
    expect(rig.dig(web, "localhost")).toEqual(["127.0.0.1"]);
    expect(rig.log()).not.toContain("server failed");
  });

  test("names are answered when ADD returns and gone when DEL does, while the container keeps port 53", async () => {
    const web = await rig.container("web", { names: ["web"] });
    rig.setServers();
    for (let round = 0; round < 5; round++) {
      const db = await rig.container("db", { names: ["db"] });
      // With the same bytes each time as well, which are answered where they are read.
      for (const words of ["db", "db +noedns", "db +noedns"])
        expect(rig.dig(web, words)).toEqual([addressesOf(db)[0]]);
      const listening = db.namespace.run(
        `${process.execPath} -e '
          const socket = require("node:dgram").createSocket("udp4").bind(53, "0.0.0.0", () => {
            require("node:net").createServer().listen(53, "0.0.0.0", () => {
              require("node:net").createServer().listen(53, "127.0.0.1", () => 0).on("error", () => {});
              require("node:child_process").execFile("dig", ["+short", "@127.0.0.11", "web"], (error, out) => {
                console.log(out); process.exit(error ? 1 : 0);
              });
            });
          });'`,
      );
      expect(listening.trim()).toBe(addressesOf(web)[0]);
      await rig.detach(db);
      for (const words of ["db", "db +noedns", "db +noedns"]) expect(rig.dig(web, words)).toEqual([]);
      expect(db.namespace.run("ss -Hlun; nft list tables")).toBe("");
      // The bridge's part, so that the next round gets another address or the same, as it likes.
      const config = rig.config({ name: "net1", bridge: "br1" });
      await rig.call("DEL", { containerId: "db", netns: db.namespace.path, config });
    }
  });

  test("a container that joins a network, or leaves it, sees its names from then on, or no more", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const far = await rig.container("far", { names: ["far"], networks: ["net2"] });
    rig.setServers();
    const hears = (words: string) => [0, 1].map(() => rig.dig(web, words));
    expect(hears("far +noedns")).toEqual([[], []]);
    const options = { names: ["web"], networks: ["net1", "net2"] };
    const second = await rig.attach({ ...web, network: "net2", index: 1, options });
    const [address = ""] = addressesOf(far, "net2");
    expect(hears("far +noedns")).toEqual([[address], [address]]);
    expect(rig.dig(far, "web +noedns")).toEqual([second.ips[0]?.address.replace(/\/.*/, "")]);
    await rig.detach({ ...web, options }, "net2");
    expect(hears("far +noedns")).toEqual([[], []]);
    expect(rig.dig(far, "web +noedns")).toEqual([]);
    expect(hears("web +noedns")).toEqual([[addressesOf(web)[0]], [addressesOf(web)[0]]]);
  });

  test("EDNS is answered by the RFCs: other versions, options that nobody knows, long answers", async () => {
    const members = [];
    for (let index = 0; index < 40; index++) {
      members.push(rig.container(`m${index}`, { names: ["many"] }));
      if (members.length % 8 === 0) await Promise.all(members);
    }
    const [first] = await Promise.all(members);
    if (!first) throw new Error("no container");
    expect(rig.digWhole(first, "many +noedns +ignore")).toMatch(/flags: qr aa tc rd ra/);
    expect(rig.dig(first, "many +noedns")).toHaveLength(40);
    expect(rig.digWhole(first, "many +bufsize=4096 +ignore")).toMatch(/flags: qr aa rd ra; .* ANSWER: 40/);
    expect(rig.digWhole(first, "many +edns=1 +noednsnegotiation")).toMatch(/status: BADVERS/);
    expect(rig.digWhole(first, "many +ednsopt=65001:beef +cookie")).toMatch(/ANSWER: 40/);
    expect(rig.digWhole(first, "many +opcode=4")).toMatch(/status: NOTIMP/);
    expect(rig.digWhole(first, "many CH TXT")).toMatch(/status: REFUSED/);
  });
});

describe("netd", () => {
  test("serves all containers again within a second of its start", async () => {
    const containers = await Promise.all(
      Array.from({ length: 6 }, (_, index) => rig.container(`c${index}`, { names: [`n${index}`] })),
    );
    process.kill(await rig.servicePid(), "SIGKILL");
    while (rig.netds().length > 0) await sleep(5);
    const [first] = containers;
    if (!first) throw new Error("no container");
    expect(rig.dig(first, "n1 +time=1")).not.toContain(addressesOf(first)[0]);
    await rig.startNetd();
    for (const [index, container] of containers.entries()) {
      const next = containers[(index + 1) % containers.length] ?? container;
      expect(rig.dig(container, `n${(index + 1) % containers.length}`)).toEqual([addressesOf(next)[0]]);
    }
    await rig.detach(first);
    expect(rig.dig(containers[1] ?? first, "n0")).toEqual([]);
  });

  test("puts back what leads a container to the resolver when the container has taken it away", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const db = await rig.container("db", { names: ["db"] });
    const rules = "table inet own { chain input { type filter hook input priority 0; policy accept; }; }";
    for (const way of [
      "nft flush ruleset",
      `nft flush ruleset; nft '${rules}'`,
      "nft delete table ip netctl_dns",
    ]) {
      web.namespace.run(way);
      while (!rig.dig(web, "db +time=1").includes(addressesOf(db)[0] ?? "")) await sleep(20);
      expect(web.namespace.run("nft list tables")).toContain("table ip netctl_dns");
    }
    expect(web.namespace.run("nft list tables")).toContain("table inet own");
    await rig.detach(web);
    expect(web.namespace.run("nft list tables")).toBe("table inet own\n");
  });

  test("lets go of a namespace that is deleted without a DEL, and of its names", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const db = await rig.container("db", { names: ["db"] });
    rig.setServers();
    const port = () => rig.links(rig.host).filter((name) => name.startsWith("veth")).length;
    expect(port()).toBe(2);
    execFileSync("ip", ["netns", "delete", db.namespace.name]);
    // The other end of its veth goes with the namespace, which nothing keeps alive.
    while (port() > 1) await sleep(20);
    expect(rig.dig(web, "db")).toEqual([]);
    expect(rig.dig(web, "web")).toEqual([addressesOf(web)[0]]);
    execFileSync("ip", ["netns", "add", db.namespace.name]);
    await rig.detach(db);
    expect(rig.dig(web, "web")).toEqual([addressesOf(web)[0]]);
  });

  test("is started by an ADD of a process of its own, which returns when the names are answered", async () => {
    const netd = await rig.servicePid();
    process.kill(netd, "SIGTERM");
    while (rig.netds().length > 0) await sleep(5);
    const web = rig.namespace("names-web");
    const config = rig.config({ name: "net1", bridge: "br1" });
    const environment = { NETCTL_STANDALONE: "1" };
    const attached = await rig.call("ADD", { containerId: "web", netns: web.path, config, environment });
    const dns = rig.dnsConfig("net1", JSON.parse(attached.stdout), { names: ["web"] });
    const call = { plugin: "dns", containerId: "web", netns: web.path, config: dns };
    const refused = await rig.call("ADD", { ...call, environment: { ...environment, NETCTL_NETD: "never" } });
    expect(JSON.parse(refused.stdout)).toMatchObject({ code: 50 });
    expect(refused.stdout).toContain("NETCTL_NETD");
    expect(web.run("nft list tables")).toBe("");
    expect(rig.remains()).not.toContain("web:eth0:dns");
    const status = await rig.call("STATUS", {
      ...call,
      environment: { ...environment, NETCTL_NETD: "never" },
    });
    expect(JSON.parse(status.stdout)).toMatchObject({ code: 50 });

    const named = await rig.call("ADD", { ...call, environment: { ...environment, NETCTL_NETD: "" } });
    expect(named).toMatchObject({ exitCode: 0 });
    expect(rig.dig({ namespace: web }, "web")).toHaveLength(1);
    expect(await rig.call("STATUS", { ...call, environment })).toMatchObject({ exitCode: 0 });
    expect(
      await rig.call("CHECK", { ...call, config: { ...dns, prevResult: JSON.parse(named.stdout) } }),
    ).toMatchObject({
      exitCode: 0,
    });
    const result: unknown = JSON.parse(named.stdout);
    for (;;) {
      // A netd that has just started looks once what is missing, and puts it back.
      web.run("nft flush ruleset");
      const checked = await rig.call("CHECK", { ...call, config: { ...dns, prevResult: result } });
      if (checked.stdout.includes("netctl_dns")) break;
    }
    const gone = await rig.call("DEL", { ...call, environment });
    expect(gone).toMatchObject({ exitCode: 0 });
    expect(web.run("ss -Hlun")).toBe("");
    const [registry = ""] = readdirSync(rig.path("run")).filter((name) => name.startsWith("names-"));
    expect(existsSync(rig.path("run", registry)) && readdirSync(rig.path("run", registry))).toEqual([]);
  });

  test("ends when it is told to, with containers that ask", async () => {
    const web = await rig.container("web", { names: ["web"] });
    const netd = await rig.servicePid();
    const other = rig.spawnNetd();
    expect(await exitCodeOf(other)).toBe(0);
    expect(rig.dig(web, "web")).toHaveLength(1);
    process.kill(netd, "SIGTERM");
    while (rig.netds().length > 0) await sleep(5);
  });
});
