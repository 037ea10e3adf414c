import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ourBin } from "#testing/clients/chain-runner.ts";
import { isAnswered } from "#testing/echo.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { ask, askOnce, startServer } from "#testing/traffic.ts";
import type { PodSpec } from "./cri.ts";
import { CriContainerd } from "./cri-containerd.ts";

describe("containerd, asked by the CRI as a kubelet asks, runs pods on our executables", () => {
  let host: TestNamespace;
  let outside: TestNamespace;
  let state: string;
  let containerd: CriContainerd;
  let stops: (() => void)[] = [];
  let count = 0;
  let running: Pod[] = [];

  beforeAll(async () => {
    expect(existsSync(join(ourBin, "bridge")), "dist/bin/bridge: run npm run build").toBe(true);
    host = TestNamespace.create("cri-host");
    outside = TestNamespace.create("cri-outside");
    host.run(
      `ip link add up0 type veth peer name eth0 netns ${outside.name}; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0`,
    );
    outside.run("ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0");
    state = mkdtempSync(join(tmpdir(), "netctl-state-"));
    containerd = await CriContainerd.start({
      host,
      bin: ourBin,
      conflist: {
        cniVersion: "1.0.0",
        name: "pods",
        plugins: [
          {
            type: "bridge",
            bridge: "cni0",
            isGateway: true,
            ipMasq: true,
            ipam: {
              type: "host-local",
              dataDir: join(state, "leases"),
              ranges: [[{ subnet: "10.88.0.0/24" }], [{ subnet: "fd00:88::/64" }]],
              routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
            },
          },
          { type: "portmap", capabilities: { portMappings: true } },
          { type: "bandwidth", capabilities: { bandwidth: true } },
        ],
      },
      environment: {
        NETCTL_STATE_DIR: join(state, "state"),
        NETCTL_RUN_DIR: join(state, "run"),
        NETCTL_STANDALONE: "1",
      },
    });
  }, 120_000);

  afterEach(async () => {
    for (const stop of stops) stop();
    stops = [];
    // After a test that has failed in the middle.
    for (const pod of running) await endPod(pod);
  });

  afterAll(async () => {
    await containerd?.stop();
    host?.remove();
    outside?.remove();
    rmSync(state, { recursive: true, force: true });
  });

  interface Pod {
    readonly id: string;
    readonly ips: readonly string[];
    readonly namespace: TestNamespace;
    readonly spec: PodSpec;
  }

  async function runPod(extra: Partial<PodSpec> = {}): Promise<Pod> {
    count++;
    const spec = { name: `pod-${count}`, uid: `uid-${count}`, ...extra };
    const id = await containerd.cri.runPodSandbox(spec);
    const { ready, ips, netns } = await containerd.cri.podSandboxStatus(id);
    expect(ready).toBe(true);
    const pod = { id, ips, namespace: TestNamespace.at(netns), spec };
    running.push(pod);
    return pod;
  }

  async function endPod({ id }: Pod): Promise<void> {
    running = running.filter((pod) => pod.id !== id);
    await containerd.cri.stopPodSandbox(id);
    await containerd.cri.removePodSandbox(id);
  }

  const leases = () => readdirSync(join(state, "leases/pods")).filter((name) => /^(10\.88|fd00)/.test(name));

  function expectNothingLeft(): void {
    expect(leases()).toEqual([]);
    const links = host.json<{ ifname: string }>("ip -j link").map(({ ifname }) => ifname);
    expect(links.sort()).toEqual(["cni0", "lo", "up0"]);
    const ruleset = host.run("nft list ruleset");
    expect(ruleset).not.toMatch(/10\.88\.0\.(?!0\/24)[0-9]+[^/0-9]/);
    const records = readdirSync(join(state, "state/journal/pods")).filter((name) => !name.startsWith("."));
    expect(records).toEqual([]);
  }

  const ready = async () => (await containerd.cri.status()).get("NetworkReady");

  test("a pod has an address of each family, by which pods, the node and the world are reached", async () => {
    const [one, two] = [await runPod(), await runPod()];
    for (const { ips } of [one, two])
      expect(ips).toEqual([expect.stringMatching(/^10\.88\.0\.\d+$/), expect.stringMatching(/^fd00:88::/)]);
    expect(new Set([...one.ips, ...two.ips]).size).toBe(4);
    for (const address of [...two.ips, "10.88.0.1", "192.0.2.2"])
      expect(isAnswered(one.namespace, address), address).toBe(true);
    expect(one.namespace.run("ip -o -4 addr show lo")).toContain("127.0.0.1/8");
    expect((await ready())?.ok).toBe(true);
    await endPod(one);
    await endPod(two);
    expectNothingLeft();
  });

  test("hostPort leads to the pod from outside and from the node, and goes with the pod", async () => {
    const pod = await runPod({
      ports: [
        { protocol: "TCP", containerPort: 7000, hostPort: 8080 },
        { protocol: "UDP", containerPort: 7000, hostPort: 8053 },
        { protocol: "TCP", containerPort: 7000, hostPort: 8081, hostIp: "127.0.0.1" },
      ],
    });
    stops.push(await startServer(pod.namespace, "pod", [7000]));
    const tcp = { protocol: "tcp", to: "192.0.2.1", port: 8080 } as const;
    expect(await ask(outside, [tcp, { ...tcp, protocol: "udp", port: 8053 }])).toEqual([
      "pod sees 192.0.2.2",
      "pod sees 192.0.2.2",
    ]);
    expect(await askOnce(host, { ...tcp, to: "127.0.0.1" })).toBe("pod sees 10.88.0.1");
    expect(await askOnce(host, { ...tcp, to: "127.0.0.1", port: 8081 })).toBe("pod sees 10.88.0.1");
    expect(await askOnce(outside, { ...tcp, port: 8081 })).not.toContain("pod sees");
    const taken = runPod({ ports: [{ protocol: "TCP", containerPort: 1, hostPort: 8080 }] });
    await expect(taken).rejects.toThrow(/port is already allocated/);
    await endPod(pod);
    expect(await askOnce(outside, tcp)).not.toContain("pod sees");
    expectNothingLeft();
  });

  test("the bandwidth annotations are token buckets on the pod's veth", async () => {
    const pod = await runPod({
      annotations: {
        "kubernetes.io/ingress-bandwidth": "10M",
        "kubernetes.io/egress-bandwidth": "20M",
      },
    });
    const qdiscs = host.run("tc qdisc show");
    expect(qdiscs).toMatch(/tbf .* dev veth\S+ root .*rate 10Mbit/);
    expect(qdiscs).toMatch(/tbf .* dev bwp\S+ root .*rate 20Mbit/);
    expect(isAnswered(pod.namespace, "10.88.0.1")).toBe(true);
    await endPod(pod);
    expectNothingLeft();
  });

  test("a container in the pod has the pod's DNS, and talks to another pod", async () => {
    const pod = await runPod({ dns: { servers: ["10.96.0.10"], searches: ["default.svc.cluster.local"] } });
    const other = await runPod();
    stops.push(await startServer(other.namespace, "other", [7000]));
    const { cri, image } = containerd;
    const id = await cri.startContainer(pod.id, pod.spec, image, ["sleep", "1000"]);
    expect(await cri.exec(id, ["cat", "/etc/resolv.conf"])).toMatch(
      /search default\.svc\.cluster\.local\nnameserver 10\.96\.0\.10/,
    );
    const [own = "", theirs = ""] = [pod.ips[0], other.ips[0]];
    expect(await cri.exec(id, ["nc", theirs, "7000"])).toBe(`other sees ${own}`);
    await endPod(pod);
    await endPod(other);
    expectNothingLeft();
  });

  test.each([
    ["a restart", "SIGTERM"],
    ["a crash", "SIGKILL"],
  ] as const)("%s of containerd leaves the pod as it is, and its end is as clean", async (_title, signal) => {
    const pod = await runPod({ ports: [{ protocol: "TCP", containerPort: 7000, hostPort: 8080 }] });
    stops.push(await startServer(pod.namespace, "pod", [7000]));
    await containerd.restart(signal);
    const question = { protocol: "tcp", to: "192.0.2.1", port: 8080 } as const;
    expect(await askOnce(outside, question)).toBe("pod sees 192.0.2.2");
    const status = await containerd.cri.podSandboxStatus(pod.id);
    expect(status).toMatchObject({ ready: true, ips: pod.ips });
    const next = await runPod();
    expect(leases()).toHaveLength(4);
    await endPod(pod);
    expect(await askOnce(outside, question)).not.toContain("pod sees");
    await endPod(next);
    expectNothingLeft();
  });

  test("a pod whose namespace has gone leaves nothing, and may be stopped again and again", async () => {
    const pod = await runPod({ ports: [{ protocol: "TCP", containerPort: 7000, hostPort: 8080 }] });
    // As after a reboot of which containerd's own notes tell nothing: the mount is gone.
    execFileSync("umount", ["-l", pod.namespace.path]);
    rmSync(pod.namespace.path);
    const { cri } = containerd;
    for (let time = 0; time < 3; time++) await cri.stopPodSandbox(pod.id);
    for (let time = 0; time < 2; time++) await cri.removePodSandbox(pod.id);
    running = [];
    expectNothingLeft();
  });

  test("the network is reported ready every time that a kubelet asks", async () => {
    const pod = await runPod();
    const answers = await Promise.all(Array.from({ length: 10 }, ready));
    expect(answers.every((answer) => answer?.ok)).toBe(true);
    await endPod(pod);
    expectNothingLeft();
  });
});
