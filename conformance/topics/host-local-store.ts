import type { Case } from "#conformance/case.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { code } from "#conformance/reply.ts";
import { lease, request } from "./host-local-allocation.ts";

const format = "host-local README, Files; plugins host-local disk backend";
const noGc = "GC does nothing; unknown to v1.1.1";
const noStatus = "has no STATUS";

/** Writes files into the network's directory, as another host-local would have. */
async function plant(lab: Lab, files: Readonly<Record<string, string>>, age = "1 hour ago"): Promise<void> {
  const directory = `${lab.dataDir}/net-a`;
  const lines = [`mkdir -p ${directory}`];
  for (const [name, content] of Object.entries(files)) {
    lines.push(`printf '${content}' > ${directory}/${name}`, `touch -d '${age}' ${directory}/${name}`);
  }
  await lab.host.shell(lines.join("; "));
}

async function leases(lab: Lab, name = "net-a"): Promise<readonly string[]> {
  const shown = await lab.host.shell(`ls ${lab.dataDir}/${name} 2>/dev/null || true`);
  return shown.split("\n").filter((file) => /^[\d.]+$|:/.test(file) && file !== "");
}

function content(lab: Lab, file: string): Promise<string> {
  return lab.host.shell(`cat ${lab.dataDir}/net-a/${file}`);
}

/** ADD at once from `count` containers; answers with the addresses of those that succeeded. */
async function race(lab: Lab, config: ReturnType<typeof request>, count: number): Promise<readonly string[]> {
  const first = await lab.container();
  const containers = [first, ...Array.from({ length: count - 1 }, () => lab.sibling(first))];
  const replies = await Promise.all(
    containers.map((container) =>
      lab.call("ADD", config, { plugin: "host-local", container, timeoutMs: 60_000 }),
    ),
  );
  const given: string[] = [];
  for (const reply of replies) {
    if (reply.succeeded) given.push(JSON.stringify(reply.expectJson()["ips"]));
    else reply.expectError();
  }
  const deletions = await Promise.all(
    containers.map((container) =>
      lab.call("DEL", config, { plugin: "host-local", container, timeoutMs: 60_000 }),
    ),
  );
  for (const reply of deletions) reply.expectSilence();
  return given;
}

export const storeCases: readonly Case[] = [
  {
    title: "a lease is a file named by the address, with container id and interface on two lines",
    source: format,
    async run(lab) {
      const { container } = await lease(lab, request(lab), await lab.container());
      expectEqual(await content(lab, "10.77.0.2"), `${container.id}\r\neth0`, "content of 10.77.0.2");
    },
  },
  {
    title: "the file of an IPv6 lease has the address's short form",
    source: format,
    async run(lab) {
      await lease(lab, request(lab, { subnet: "2001:DB8:0:0:7::/80" }), await lab.container());
      expectEqual(await leases(lab), ["2001:db8::7:0:0:2"], "files");
    },
  },
  {
    title: "last_reserved_ip.N holds the address that each range set gave last",
    source: format,
    async run(lab) {
      await lease(
        lab,
        request(lab, { ranges: [[{ subnet: "10.77.0.0/24" }], [{ subnet: "fd00:77::/64" }]] }),
        await lab.container(),
      );
      expectEqual((await content(lab, "last_reserved_ip.0")).trim(), "10.77.0.2", "last_reserved_ip.0");
      expectEqual((await content(lab, "last_reserved_ip.1")).trim(), "fd00:77::2", "last_reserved_ip.1");
    },
  },
  {
    title: "last_reserved_ip.N of another host-local is honoured",
    source: format,
    async run(lab) {
      await plant(lab, { "last_reserved_ip.0": "10.77.0.99" });
      expectEqual((await lease(lab, request(lab), await lab.container())).ip(), "10.77.0.100", "address");
    },
  },
  {
    title: "leases of another host-local are left alone",
    source: format,
    async run(lab) {
      await plant(lab, { "10.77.0.2": "foreign-1\\r\\neth0", "10.77.0.3": "foreign-2\\r\\neth0" });
      expectEqual((await lease(lab, request(lab), await lab.container())).ip(), "10.77.0.4", "address");
      expectEqual(await content(lab, "10.77.0.2"), "foreign-1\r\neth0", "content of 10.77.0.2");
    },
  },
  {
    title: "leases of another host-local are freed by DEL and found by CHECK",
    source: format,
    async run(lab) {
      const container = await lab.container("foreign-1");
      await plant(lab, { "10.77.0.2": "foreign-1\\r\\neth0" });
      const ips = [{ address: "10.77.0.2/24" }];
      const config = { ...request(lab), prevResult: { cniVersion: "1.0.0", ips } };
      (await lab.call("CHECK", config, { plugin: "host-local", container })).expectSilence();
      (await lab.call("DEL", config, { plugin: "host-local", container })).expectSilence();
      expectEqual(await leases(lab), [], "leases");
    },
  },
  {
    title: "an old lease with the container id alone is honoured by ADD and DEL",
    source: `${format}: before v0.7`,
    async run(lab) {
      const container = await lab.container("old-style");
      await plant(lab, { "10.77.0.2": "old-style" });
      (await lab.call("ADD", request(lab), { plugin: "host-local", container })).expectError({
        names: /10\.77\.0\.2/,
      });
      (await lab.call("DEL", request(lab), { plugin: "host-local", container })).expectSilence();
      expectEqual(await leases(lab), [], "leases");
    },
  },
  {
    title: "an empty lease, as power loss leaves it, is free again",
    source: "plugins#498",
    reference: "an empty file is a lost address",
    async run(lab) {
      await plant(lab, { "10.77.0.7": "" });
      const config = request(lab, { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" });
      expectEqual((await lease(lab, config, await lab.container())).ip(), "10.77.0.7", "address");
    },
  },
  {
    title: "rubbish in last_reserved_ip.N does not stop ADD",
    source: "plugins host-local allocator",
    async run(lab) {
      await plant(lab, { "last_reserved_ip.0": "rubbish" });
      expectEqual((await lease(lab, request(lab), await lab.container())).ip(), "10.77.0.2", "address");
    },
  },
  {
    title: "a last_reserved_ip.N outside of today's range does not stop ADD",
    source: "plugins host-local allocator; ranges change in practice",
    async run(lab) {
      await plant(lab, { "last_reserved_ip.0": "172.16.0.9" });
      expectEqual((await lease(lab, request(lab), await lab.container())).ip(), "10.77.0.2", "address");
    },
  },
  {
    title: "files that are no leases are left alone",
    source: format,
    async run(lab) {
      await plant(lab, { "README.txt": "mine", "10.77.0.2.bak": "mine" });
      const attachment = await lease(lab, request(lab), await lab.container());
      (await attachment.del()).expectSilence();
      expectEqual(
        [await content(lab, "README.txt"), await content(lab, "10.77.0.2.bak")],
        ["mine", "mine"],
        "contents",
      );
    },
  },
  {
    title: "networks with one dataDir do not share leases",
    source: format,
    async run(lab) {
      const one = await lease(lab, request(lab), await lab.container());
      const two = await lease(lab, request(lab, {}, { name: "net-b" }), await lab.container());
      expectEqual([one.ip(), two.ip()], ["10.77.0.2", "10.77.0.2"], "addresses");
    },
  },
  {
    title: "fifty at once get fifty addresses, and fifty DELs free them",
    source: "SPEC 1.1.0: parallel across containers",
    async run(lab) {
      const given = await race(lab, request(lab), 50);
      expectEqual(given.length, 50, "number of successes");
      expectEqual(new Set(given).size, 50, "number of different addresses");
      expectEqual(await leases(lab), [], "leases after the DELs");
    },
  },
  {
    title: "of twenty at once for eight addresses eight succeed and twelve are told why",
    source: "SPEC 1.1.0: parallel across containers",
    async run(lab) {
      const given = await race(lab, request(lab, { rangeStart: "10.77.0.10", rangeEnd: "10.77.0.17" }), 20);
      expectEqual(new Set(given).size, 8, "number of different addresses");
      expectEqual(given.length, 8, "number of successes");
    },
  },
  ...["cni.dev/valid-attachments", "cni.dev/attachments"].map(
    (key): Case => ({
      title: `GC frees what is not in ${key} and keeps what is`,
      source:
        key === "cni.dev/attachments" ? "libcni, GCNetworkList: legacy key (cni#1101)" : "SPEC 1.1.0, GC",
      reference: noGc,
      async run(lab) {
        await plant(lab, {
          "10.77.0.2": "stale-1\\r\\neth0",
          "10.77.0.3": "kept-1\\r\\neth0",
          "10.77.0.4": "kept-1\\r\\neth1",
          "10.77.0.5": "stale-2",
          "10.77.0.6": "kept-2",
        });
        const valid = [
          { containerID: "kept-1", ifname: "eth0" },
          { containerID: "kept-2", ifname: "eth0" },
        ];
        const config = { ...request(lab, {}, { cniVersion: "1.1.0" }), [key]: valid };
        (await lab.call("GC", config, { plugin: "host-local" })).expectSilence();
        expectEqual(await leases(lab), ["10.77.0.3", "10.77.0.6"], "leases");
        await plant(lab, { "10.77.0.3": "", "10.77.0.6": "" });
        await lab.host.shell(`rm ${lab.dataDir}/net-a/10.*`);
      },
    }),
  ),
  {
    title: "GC with an empty list frees all of the network, GC without a list nothing",
    source: "SPEC 1.1.0, GC",
    reference: noGc,
    async run(lab) {
      await plant(lab, { "10.77.0.2": "stale-1\\r\\neth0" });
      const config = request(lab, {}, { cniVersion: "1.1.0" });
      (await lab.call("GC", config, { plugin: "host-local" })).expectSilence();
      expectEqual(await leases(lab), ["10.77.0.2"], "leases after GC without a list");
      (
        await lab.call("GC", { ...config, "cni.dev/valid-attachments": [] }, { plugin: "host-local" })
      ).expectSilence();
      expectEqual(await leases(lab), [], "leases after GC with an empty list");
    },
  },
  {
    title: "STATUS is silent while there are addresses and says 50 without",
    source: "SPEC 1.1.0, STATUS: code 50",
    reference: noStatus,
    async run(lab) {
      const config = request(
        lab,
        { rangeStart: "10.77.0.7", rangeEnd: "10.77.0.7" },
        { cniVersion: "1.1.0" },
      );
      (await lab.call("STATUS", config, { plugin: "host-local" })).expectSilence();
      const attachment = await lease(lab, config, await lab.container());
      (await lab.call("STATUS", config, { plugin: "host-local" })).expectError({ code: code.notAvailable });
      (await attachment.del()).expectSilence();
      (await lab.call("STATUS", config, { plugin: "host-local" })).expectSilence();
    },
  },
  {
    title: "STATUS says 50 where one of two range sets is exhausted",
    source: "SPEC 1.1.0, STATUS: code 50; one address from each set",
    reference: noStatus,
    async run(lab) {
      const ranges = [
        [{ subnet: "10.77.0.0/24" }],
        [{ subnet: "10.78.0.0/24", rangeStart: "10.78.0.7", rangeEnd: "10.78.0.7" }],
      ];
      const config = request(lab, { ranges }, { cniVersion: "1.1.0" });
      await lease(lab, config, await lab.container());
      (await lab.call("STATUS", config, { plugin: "host-local" })).expectError({ code: code.notAvailable });
    },
  },
  {
    title: "an ADD killed at any moment leaves nothing that its DEL does not free",
    source: "SPEC 1.1.0, DEL: to the fullest extent possible; plugins#498",
    async run(lab) {
      const config = request(lab, { rangeStart: "10.77.0.10", rangeEnd: "10.77.0.13" });
      const first = await lab.container();
      const timed = await lab.call("ADD", config, { plugin: "host-local", container: first });
      (await lab.call("DEL", config, { plugin: "host-local", container: first })).expectSilence();
      const wholeMs = timed.completed.durationMs;
      for (let step = 1; step <= 8; step += 1) {
        const container = lab.sibling(first);
        await lab.call("ADD", config, {
          plugin: "host-local",
          container,
          onStart: (processId) => {
            setTimeout(
              () => {
                try {
                  process.kill(processId, "SIGKILL");
                } catch {
                  // It was faster.
                }
              },
              (wholeMs * step) / 8,
            );
          },
        });
        (await lab.call("DEL", config, { plugin: "host-local", container })).expectSilence();
      }
      const after = await race(lab, config, 4);
      expect(after.length === 4, `only ${after.length} of 4 addresses are left`);
    },
  },
];
