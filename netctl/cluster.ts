import { randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import type { Engine } from "#engine/engine.ts";
import { EngineError } from "#engine/error.ts";
import { serviceAccountDirectory } from "#engine/kubernetes/settings.ts";
import { readAllAddresses } from "#kernel/address.ts";
import { listLinks } from "#kernel/link.ts";
import { readAllRoutes } from "#kernel/route.ts";
import { writeDurably } from "#machine/durable-file.ts";
import { IoError } from "#machine/io-error.ts";
import { type Cidr, formatCidr, hasHostBits, networkOf, parseCidr } from "#net/cidr.ts";
import { tryParseIp } from "#net/ip.ts";
import { Cluster, type ClusterSpec } from "#overlay/cluster.ts";
import { OverlayError } from "#overlay/error.ts";
import {
  type HostSettings,
  hostSettingsPath,
  overlayDirectory,
  readHostSettings,
} from "#overlay/host-settings.ts";
import { openEngine } from "#overlay/open-engine.ts";
import { namePattern, type Pool } from "#overlay/record.ts";
import { readSelf } from "#overlay/self.ts";
import { Failure, UsageFailure } from "./failure.ts";
import { NetdEngine } from "./netd-engine.ts";
import type { World } from "./world.ts";

/** Networks of a cluster come from these where `cluster init` is told no others. */
const defaultPools: readonly Pool[] = [
  { base: parseCidr("10.128.0.0/10"), size: 16, blockLength: 26 },
  { base: parseCidr("fd6e:6574:6374::/48"), size: 64, blockLength: 112 },
];

export interface EngineFlags {
  readonly etcd: readonly string[];
  /** True: the pod's own API server. */
  readonly kubernetes?: string | true;
  readonly kubernetesNamespace?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly user?: string;
  readonly passwordFile?: string;
}

export interface MemberFlags extends EngineFlags {
  readonly hostName?: string;
  readonly underlay?: string;
}

/** What this host is told of the engine, on the command line of `cluster init` and `cluster join`. */
export function engineSettings(
  flags: EngineFlags,
  environment: Readonly<Record<string, string | undefined>>,
): HostSettings["engine"] {
  if (flags.kubernetes !== undefined) return kubernetesSettings(flags, flags.kubernetes, environment);
  const { etcd, ca, cert, key, user, passwordFile } = flags;
  if (etcd.length === 0) {
    if ([ca, cert, key, user, passwordFile].some((flag) => flag !== undefined))
      throw new UsageFailure("--ca, --cert, --key and --user say how to reach etcd: give --etcd as well");
    return { kind: "local" };
  }
  if ((user === undefined) !== (passwordFile === undefined))
    throw new UsageFailure("--user and --password-file go together");
  if ((cert === undefined) !== (key === undefined)) throw new UsageFailure("--cert and --key go together");
  const plain = etcd.find((endpoint) => !/^https:/i.test(endpoint));
  for (const [flag, path] of [["--ca", ca] as const, ["--cert", cert] as const, ["--key", key] as const]) {
    if (path === undefined) continue;
    if (plain !== undefined)
      throw new UsageFailure(
        `Cannot use ${flag} with ${JSON.stringify(plain)}: nothing is encrypted there; https://HOST:PORT is`,
      );
    readPart(flag, path);
  }
  // netd, which reads them as well, is in another directory.
  const tls = {
    ...(ca && { ca: resolve(ca) }),
    ...(cert && { cert: resolve(cert) }),
    ...(key && { key: resolve(key) }),
  };
  return {
    kind: "etcd",
    endpoints: [...etcd],
    ...(Object.keys(tls).length > 0 ? { tls } : {}),
    ...(user !== undefined && passwordFile !== undefined
      ? { user: { name: user, password: readPassword(passwordFile) } }
      : {}),
  };
}

/** In a pod its service account says all of it. */
function kubernetesSettings(
  { etcd, ca, cert, key, user, kubernetesNamespace, tokenFile }: EngineFlags,
  asked: string | true,
  environment: Readonly<Record<string, string | undefined>>,
): HostSettings["engine"] {
  if (etcd.length > 0 || cert !== undefined || key !== undefined || user !== undefined)
    throw new UsageFailure("--kubernetes goes with --ca, --token-file and --kubernetes-namespace alone");
  const host = environment["KUBERNETES_SERVICE_HOST"];
  const isPod = asked === true;
  if (isPod && !host)
    throw new UsageFailure("This is no pod: give --kubernetes the URL of the API server, https://HOST:PORT");
  const port = environment["KUBERNETES_SERVICE_PORT"] ?? "443";
  const token = tokenFile ?? (isPod ? `${serviceAccountDirectory}/token` : undefined);
  const authority = ca ?? (isPod ? `${serviceAccountDirectory}/ca.crt` : undefined);
  return {
    kind: "kubernetes",
    server: isPod ? `https://${host?.includes(":") ? `[${host}]` : host}:${port}` : asked,
    namespace: kubernetesNamespace ?? "netctl",
    ...(token === undefined ? {} : { tokenFile: resolve(token) }),
    ...(authority === undefined ? {} : { caFile: resolve(authority) }),
  };
}

function readPassword(path: string): string {
  return readPart("--password-file", path).replace(/\r?\n$/, "");
}

/** What a flag names, so that what can't be read is said now, and with the flag. @throws {Failure} */
function readPart(flag: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new Failure(`${flag}: ${new IoError("read", path, cause).message}`, { cause });
  }
}

/** `BASE,SIZE[,BLOCK]`: 10.32.0.0/12,16,26 */
export function parsePool(text: string): Pool {
  const [base = "", size = "", block] = text.split(",");
  const bad = (reason: string) =>
    new UsageFailure(
      `Cannot use pool ${JSON.stringify(text)}: ${reason}; expected BASE,SIZE[,BLOCK] as in 10.32.0.0/12,16,26`,
    );
  let cidr: Cidr;
  try {
    cidr = parseCidr(base);
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error));
  }
  if (hasHostBits(cidr)) throw bad(`BASE should be ${formatCidr(networkOf(cidr))}`);
  const bits = cidr.address.family === 4 ? 32 : 128;
  const sizeNumber = Number(size);
  const blockNumber = block === undefined ? (cidr.address.family === 4 ? 26 : 112) : Number(block);
  if (!(Number.isInteger(sizeNumber) && sizeNumber >= cidr.prefixLength && sizeNumber < bits))
    throw bad("SIZE is no prefix length within BASE");
  if (!(Number.isInteger(blockNumber) && blockNumber >= sizeNumber && blockNumber <= bits - 3))
    throw bad("BLOCK is no prefix length within SIZE that leaves eight addresses");
  return { base: cidr, size: sizeNumber, blockLength: blockNumber };
}

export interface Founding {
  readonly pools: readonly Pool[];
  readonly udpPort: number;
}

/**
 * Makes this host a member, and founds the cluster where `founding` is given and there is none.
 * @throws {Failure}
 */
export async function becomeMember(
  world: World,
  name: string,
  flags: MemberFlags,
  founding: Founding | undefined,
): Promise<HostSettings> {
  if (!namePattern.test(name))
    throw new UsageFailure(
      `Cannot name a cluster ${JSON.stringify(name)}: a name starts with a letter or digit, continues with those and _ . -, and has at most 128 characters`,
    );
  if (flags.hostName !== undefined && !/^[\w.-]{1,64}$/.test(flags.hostName))
    throw new UsageFailure(
      `Cannot use --host-name ${JSON.stringify(flags.hostName)}: expected letters, digits and _ . -, at most 64 of them`,
    );
  const directory = overlayDirectory(world.directories.state);
  const present = readHostSettings(directory);
  if (present)
    throw new Failure(
      `This host is a member of cluster ${present.cluster} already; "netctl cluster leave" ends that`,
    );
  const engine = engineSettings(flags, world.environment);
  if (engine.kind === "local" && !founding)
    throw new UsageFailure(
      "Cannot join a cluster without its engine: give --etcd http://HOST:PORT for each member",
    );
  const self = {
    hostId: randomBytes(8).toString("hex"),
    name: flags.hostName ?? hostname(),
    underlay: chooseUnderlay(world, flags.underlay),
  };
  const record = await withEngine(world, engine, async (store) => {
    const cluster = new Cluster(store, name);
    if (!founding && !(await store.read(cluster.keys.cluster)))
      throw new Failure(
        `There is no cluster ${JSON.stringify(name)} there; "netctl cluster init" founds one`,
      );
    const spec: ClusterSpec = {
      udpPort: founding?.udpPort ?? 4789,
      vniMin: 4096,
      vniMax: 0xffffff,
      pools: founding && founding.pools.length > 0 ? founding.pools : defaultPools,
    };
    const opened = await cluster.open(spec);
    const { v4, v6 } = readSelf(self, world.kernel.namespace)?.underlay ?? {};
    await cluster.refuseUnderlay([v4, v6].filter((ip) => ip !== undefined));
    return opened;
  });
  const settings: HostSettings = {
    v: 1,
    cluster: name,
    uuid: record.uuid,
    ...self,
    nonce: randomBytes(16).toString("hex"),
    engine,
  };
  await writeDurably(hostSettingsPath(directory), `${JSON.stringify(settings, undefined, 2)}\n`, {
    mode: 0o600,
    directoryMode: 0o700,
  });
  return settings;
}

/** Ends this host's membership on disk; its agent stops within a second. */
export function forgetMembership(world: World): void {
  rmSync(hostSettingsPath(overlayDirectory(world.directories.state)), { force: true });
}

/** @throws {Failure} if this host is in no cluster */
export function requireMembership(world: World): HostSettings {
  const settings = readHostSettings(overlayDirectory(world.directories.state));
  if (!settings)
    throw new Failure(
      'This host is in no cluster; "netctl cluster init" founds one, "netctl cluster join" joins one',
    );
  return settings;
}

/** Opens the engine of this host's cluster for one command. @throws {Failure} in its words */
export async function withCluster<T>(
  world: World,
  action: (cluster: Cluster, engine: Engine, settings: HostSettings) => Promise<T>,
): Promise<T> {
  const settings = requireMembership(world);
  return await withEngine(
    world,
    settings.engine,
    async (engine) => await action(new Cluster(engine, settings.cluster), engine, settings),
  );
}

async function withEngine<T>(
  world: World,
  settings: HostSettings["engine"],
  action: (engine: Engine) => Promise<T>,
): Promise<T> {
  const engine = settings.kind === "local" ? new NetdEngine(world) : openEngine(settings);
  try {
    return await action(engine);
  } catch (error) {
    if (error instanceof EngineError || error instanceof OverlayError)
      throw new Failure(error.message, { cause: error });
    throw error;
  } finally {
    await engine.close();
  }
}

/** A device, an address, or what the default route leaves by. */
function chooseUnderlay(world: World, asked: string | undefined): HostSettings["underlay"] {
  const { namespace } = world.kernel;
  const links = listLinks(namespace);
  if (asked !== undefined) {
    const ip = tryParseIp(asked);
    if (ip) {
      const isOurs = readAllAddresses(namespace).some(
        ({ address }) => address.address.family === ip.family && address.address.value === ip.value,
      );
      if (!isOurs) throw new Failure(`Cannot use underlay ${asked}: this host has no such address`);
      return ip.family === 4 ? { v4: asked } : { v6: asked };
    }
    if (!links.some((link) => link.name === asked))
      throw new Failure(
        `Cannot use underlay ${JSON.stringify(asked)}: neither an address nor a device of this host`,
      );
    return { device: asked };
  }
  const routes = readAllRoutes(namespace).filter((route) => !route.destination && route.table === 254);
  const route = routes.find(({ family }) => family === 4) ?? routes[0];
  const device = links.find((link) => link.ifindex === route?.ifindex);
  if (!device)
    throw new Failure(
      "Cannot tell by which device the other hosts are reached, as there is no default route: give --underlay DEVICE or ADDRESS",
    );
  return { device: device.name };
}
