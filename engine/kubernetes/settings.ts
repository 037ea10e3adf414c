/** How to reach a cluster's API server, and as whom. */
export interface KubernetesSettings {
  /** `https://host:port`; in a pod that of KUBERNETES_SERVICE_HOST and _PORT. */
  readonly server: string;
  /** Where the entries and leases are. */
  readonly namespace: string;
  /** Bearer token; read again when it changes, as kubelet renews it. */
  readonly tokenFile?: string;
  /** Certificate authority of the server's, PEM. */
  readonly caFile?: string;
  /** Until one request is answered. Default 5,000. */
  readonly requestTimeoutMs?: number;
  /** Between two looks for leases that nobody renews. Default 20,000. */
  readonly sweepMs?: number;
}

/** What a pod finds of its service account. */
export const serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";
