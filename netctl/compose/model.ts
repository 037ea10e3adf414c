/** What a Compose file says of networks, understood. Names are those on this host, with the project's in front. */
export interface ComposeProject {
  readonly name: string;
  readonly networks: readonly ComposeNetwork[];
  readonly services: readonly ComposeService[];
  /** Where the file asks for something of the network that is not served: path and what it is. */
  readonly unsupported: readonly string[];
}

export interface ComposeNetwork {
  /** As the file calls it. */
  readonly key: string;
  readonly name: string;
  /** Somebody else makes and removes it. */
  readonly isExternal: boolean;
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly internal: boolean;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly ipamDriver: string | undefined;
  readonly subnets: readonly ComposeSubnet[];
}

export interface ComposeSubnet {
  readonly subnet: string;
  readonly gateway?: string;
  readonly ipRange?: string;
  /** `NAME=ADDRESS` */
  readonly auxAddresses: readonly string[];
}

export interface ComposeService {
  readonly key: string;
  /** One for each replica. */
  readonly sandboxes: readonly string[];
  /** In the order of their interfaces. `host` and `none` stand for themselves. */
  readonly networks: readonly ComposeEndpoint[];
  readonly hostname: string | undefined;
  readonly dns: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOptions: readonly string[];
  readonly extraHosts: readonly string[];
  /** `KEY=VALUE`, of the network alone. */
  readonly sysctls: readonly string[];
  /** As `-p` takes them. */
  readonly ports: readonly string[];
}

export interface ComposeEndpoint {
  /** On this host. */
  readonly network: string;
  readonly aliases: readonly string[];
  readonly ips: readonly string[];
  readonly mac: string | undefined;
  readonly gatewayPriority: number;
  readonly interfaceName: string | undefined;
}
