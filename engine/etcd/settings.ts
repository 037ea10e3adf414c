/** How to reach an etcd cluster, and as whom. */
export interface EtcdSettings {
  /** `http://host:port` or `https://…`, all members; tried in turn. */
  readonly endpoints: readonly string[];
  /** PEM files, read again when they change. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  readonly user?: { readonly name: string; readonly password: string };
  /** Until an endpoint has taken the connection. Default 2,000. */
  readonly connectTimeoutMs?: number;
  /** Until one request is answered by one endpoint. Default 5,000. */
  readonly requestTimeoutMs?: number;
}
