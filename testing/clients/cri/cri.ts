import { GrpcClient } from "./grpc.ts";
import { Fields, mapEntries, message } from "./protobuf.ts";

/** What the kubelet asks of a runtime to run a pod. Field numbers: api.proto of k8s.io/cri-api, package runtime.v1. */
export interface PodSpec {
  readonly name: string;
  readonly uid: string;
  readonly dns?: { readonly servers: readonly string[]; readonly searches: readonly string[] };
  readonly ports?: readonly {
    readonly protocol: "TCP" | "UDP" | "SCTP";
    readonly containerPort: number;
    readonly hostPort: number;
    /** Absent: every address of the node. */
    readonly hostIp?: string;
  }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface PodStatus {
  readonly ready: boolean;
  /** All addresses, the first one first. */
  readonly ips: readonly string[];
  /** Path of its network namespace, as the runtime's own notes have it. */
  readonly netns: string;
}

const protocols = ["TCP", "UDP", "SCTP"] as const;
/** NamespaceMode */
const container = 1;

/** The kubelet's side of the CRI: https://kubernetes.io/docs/concepts/containers/cri */
export class CriClient {
  readonly #grpc: GrpcClient;
  readonly #cgroupParent: string;

  constructor(socketPath: string, options: { readonly cgroupParent: string }) {
    this.#grpc = new GrpcClient(socketPath);
    this.#cgroupParent = options.cgroupParent;
  }

  /** What the runtime says of itself: RuntimeReady, NetworkReady, each with its reason where it is not. */
  async status(): Promise<ReadonlyMap<string, { readonly ok: boolean; readonly text: string }>> {
    const conditions = (await this.#call("Status")).message(1).messages(1);
    return new Map(
      conditions.map((each) => [
        each.text(1),
        { ok: each.number(2) === 1, text: `${each.text(3)} ${each.text(4)}` },
      ]),
    );
  }

  /** @returns the pod's id */
  async runPodSandbox(spec: PodSpec): Promise<string> {
    return (await this.#call("RunPodSandbox", message([1, this.#podConfig(spec)]))).text(1);
  }

  async stopPodSandbox(id: string): Promise<void> {
    await this.#call("StopPodSandbox", message([1, id]));
  }

  async removePodSandbox(id: string): Promise<void> {
    await this.#call("RemovePodSandbox", message([1, id]));
  }

  async podSandboxStatus(id: string): Promise<PodStatus> {
    const answer = await this.#call("PodSandboxStatus", message([1, id], [2, true]));
    const status = answer.message(1);
    const network = status.message(5);
    const info = answer.messages(2).find((entry) => entry.text(1) === "info");
    return {
      ready: status.number(3) === 0,
      ips: [network.text(1), ...network.messages(2).map((each) => each.text(1))],
      netns: namespaceIn(info?.text(2) ?? "{}"),
    };
  }

  /** Starts a container in the pod. @returns its id */
  async startContainer(
    pod: string,
    spec: PodSpec,
    image: string,
    command: readonly string[],
  ): Promise<string> {
    const config = message(
      [1, message([1, "main"])],
      [2, message([1, image])],
      [3, [...command]],
      [15, [message()]],
    );
    const created = await this.#call(
      "CreateContainer",
      message([1, pod], [2, config], [3, this.#podConfig(spec)]),
    );
    const id = created.text(1);
    await this.#call("StartContainer", message([1, id]));
    return id;
  }

  /** What a command in a container prints. */
  async exec(id: string, command: readonly string[]): Promise<string> {
    const answer = await this.#call("ExecSync", message([1, id], [2, [...command]], [3, 30]));
    return answer.text(1) + answer.text(2);
  }

  close(): void {
    this.#grpc.close();
  }

  #podConfig({ name, uid, dns, ports = [], annotations = {} }: PodSpec): Uint8Array {
    const mappings = ports.map(({ protocol, containerPort, hostPort, hostIp = "" }) =>
      message([1, protocols.indexOf(protocol)], [2, containerPort], [3, hostPort], [4, hostIp]),
    );
    const namespaces = message([2, container]);
    return message(
      [1, message([1, name], [2, uid], [3, "default"])],
      [2, name],
      [4, dns && message([1, [...dns.servers]], [2, [...dns.searches]])],
      [5, mappings],
      [6, mapEntries({ app: name })],
      [7, mapEntries(annotations)],
      [8, message([1, this.#cgroupParent], [2, message([1, namespaces])])],
    );
  }

  async #call(method: string, request: Uint8Array = message()): Promise<Fields> {
    return new Fields(await this.#grpc.call(`/runtime.v1.RuntimeService/${method}`, request));
  }
}

/** containerd's notes on a pod: the OCI specification of its first container has the path. */
function namespaceIn(info: string): string {
  const notes = JSON.parse(info) as {
    runtimeSpec?: { linux?: { namespaces?: readonly { type: string; path?: string }[] } };
  };
  return notes.runtimeSpec?.linux?.namespaces?.find(({ type }) => type === "network")?.path ?? "";
}
