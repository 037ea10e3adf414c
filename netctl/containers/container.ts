/** A running container as its runtime knows it. */
export interface Container {
  /** "containerd", "docker", "podman", "cri-o", "nerdctl", "cri" (Kubernetes on containerd). */
  readonly runtime: string;
  readonly id: string;
  /** What the runtime's own client calls it; the id where it has no other name. */
  readonly name: string;
  /** "namespace/name" of its pod; undefined outside Kubernetes. */
  readonly pod?: string | undefined;
  /** Its first process. */
  readonly pid: number;
}
