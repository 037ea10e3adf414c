import { access } from "node:fs/promises";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Attachment } from "./attachment.ts";
import { runTool } from "./command.ts";
import { plainConfig } from "./configs.ts";
import { eventually, expect, Skip } from "./failure.ts";
import type { CallOptions, Lab } from "./lab.ts";
import { ping } from "./traffic.ts";

/** For what an agent does behind a command that has returned. */
const agentMs = 30_000;

const underlay = "up0";

/** No service answers the call, and none is started: it does all by itself. */
export const withoutService = { environment: { NETCTL_STANDALONE: "1", NETCTL_NETD: "never" } };

/**
 * Hosts of one cluster. An operator's command founds it, as there is no verb of CNI that could; all that a case then
 * looks at is called by environment and stdin.
 */
export class OverlayHosts {
  readonly labs: readonly Lab[];
  readonly #etcd: readonly string[];

  private constructor(labs: readonly Lab[], etcd: readonly string[]) {
    this.labs = labs;
    this.#etcd = etcd;
  }

  /** One host, which keeps in a file of its own what a cluster agrees on. */
  static async alone(lab: Lab, ...initFlags: readonly string[]): Promise<OverlayHosts> {
    await lab.host.ip(`link add ${underlay} type veth peer name up1`);
    await lab.host.ipBatch([
      `link set ${underlay} up`,
      "link set up1 up",
      `address add 203.0.113.1/24 dev ${underlay}`,
    ]);
    const hosts = new OverlayHosts([lab], []);
    await hosts.#found(initFlags);
    return hosts;
  }

  /** Two hosts on one wire, the first of which has an etcd. @throws {Skip} where the machine has none */
  static async pair(lab: Lab): Promise<OverlayHosts> {
    await runTool("sh", ["-c", "command -v etcd"]).catch(() => {
      throw new Skip("this machine has no etcd");
    });
    const other = await lab.beside();
    await lab.host.ip(`link add ${underlay} type veth peer name ${underlay} netns ${other.host.name}`);
    for (const [at, { host }] of [lab, other].entries())
      await host.ipBatch([
        `link set ${underlay} up`,
        `address add 203.0.113.${at + 1}/24 dev ${underlay}`,
        `address add 2001:db8:ff::${at + 1}/64 dev ${underlay} nodad`,
      ]);
    const client = "http://203.0.113.1:2379";
    const words = `--data-dir ${lab.directory}/etcd --unsafe-no-fsync --logger zap --log-level error
      --listen-client-urls ${client} --advertise-client-urls ${client} --listen-peer-urls http://127.0.0.1:2380`;
    lab.run(lab.host, "etcd", words.split(/\s+/));
    const hosts = new OverlayHosts([lab, other], ["--etcd", client]);
    await hosts.#found([]);
    return hosts;
  }

  get first(): Lab {
    const [first] = this.labs;
    if (!first) throw new Error("There is no host");
    return first;
  }

  get second(): Lab {
    const [, second] = this.labs;
    if (!second) throw new Error("There is no second host");
    return second;
  }

  async #found(initFlags: readonly string[]): Promise<void> {
    for (const [at, lab] of this.labs.entries()) {
      // Whatever is asked for, the service is there afterwards.
      await lab.call("STATUS", overlayConfig("none-yet"), { environment: { NETCTL_STANDALONE: undefined } });
      const words = [at === 0 ? "init" : "join", ...this.#etcd, ...(at === 0 ? initFlags : [])];
      const command = ["cluster", ...words, "--underlay", underlay, "--host-name", `h${at + 1}`];
      await until("the host is a member", async () => {
        const { exitCode, stderr } = await netctl(lab, command);
        return exitCode === 0 || stderr.includes("is a member");
      });
      await until("its agent runs", async () => (await netctl(lab, ["cluster", "status"])).exitCode === 0);
    }
  }

  /** Creates a network, which has addresses on every host when this returns. What stands there then may stay. */
  async network(name: string, ...flags: readonly string[]): Promise<JsonObject> {
    const words = ["network", "create", "-d", "overlay-vxlan", ...flags, name];
    const { exitCode, stderr } = await netctl(this.first, words);
    if (exitCode !== 0) throw new Error(`Cannot create network ${name}: ${stderr}`);
    const config = overlayConfig(name);
    // The first containers bring bridge, tunnel and routes with them.
    const made: Attachment[] = [];
    for (const lab of this.labs) {
      const status = async () => (await lab.call("STATUS", config)).succeeded;
      await until(`the network is known to ${lab.host.name}`, status);
      made.push(await this.attach(lab, config));
    }
    for (const from of made)
      for (const to of made) if (from !== to) for (const { ip } of to.result.ips) await expectReach(from, ip);
    for (const attachment of made) (await attachment.del()).expectSilence();
    for (const lab of this.labs) await lab.rebase();
    return config;
  }

  /** @returns exit code and words of `netctl` on the first host */
  async netctl(...words: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await netctl(this.first, words);
    if (exitCode !== 0) throw new Error(`netctl ${words.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** A new container in the network. */
  async attach(lab: Lab, config: JsonObject, options: Partial<CallOptions> = {}): Promise<Attachment> {
    return lab.attach(config, await lab.container(), options);
  }
}

async function netctl(lab: Lab, words: readonly string[]) {
  const program = `${lab.bench.bin}/netctl`;
  await access(program).catch(() => {
    throw new Skip("no executable netctl");
  });
  return lab.host.enter(program, words, { environment: lab.environment });
}

/** A network config of overlay-vxlan: all but the name stands in the cluster. */
export function overlayConfig(name: string, extra: Readonly<Record<string, JsonValue>> = {}): JsonObject {
  return plainConfig("overlay-vxlan", { cniVersion: "1.1.0", name, ...extra });
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  if (!(await eventually(isSo, agentMs))) throw new Error(`Waited in vain until ${what}`);
}

/** For what one host hears of another a moment later. */
export async function expectReach(from: Attachment, host: string): Promise<void> {
  const reaches = await eventually(() => ping(from.container.namespace, host, 1), agentMs);
  expect(reaches, `${from.ip()} does not reach ${host}`);
}

export async function expectNoReach(from: Attachment, host: string): Promise<void> {
  expect(!(await ping(from.container.namespace, host, 1)), `${from.ip()} reaches ${host}`);
}
