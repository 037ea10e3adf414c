/** Where everything is. Each can be moved by flag or environment, so that tests never touch the host's own. */
export interface Directories {
  /** Conflists. NETCTL_CONF_DIR, /etc/cni/net.d */
  readonly conf: string;
  /** Executables. NETCTL_BIN_DIR, /opt/cni/bin */
  readonly bin: string;
  /** What must outlive a reboot: the journal. NETCTL_STATE_DIR, /var/lib/netctl */
  readonly state: string;
  /** What need not: sockets, sandboxes' namespaces. NETCTL_RUN_DIR, /run/netctl */
  readonly run: string;
  /** host-local's default dataDir: /var/lib/cni/networks, or `networks` below NETCTL_STATE_DIR where that is set. */
  readonly leases: string;
  /** A runtime's result cache: /var/lib/cni/results, or `results` below NETCTL_STATE_DIR where that is set. */
  readonly results: string;
}

export interface DirectoryOverrides {
  readonly conf?: string | undefined;
  readonly bin?: string | undefined;
  readonly state?: string | undefined;
  readonly run?: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Flags win over environment, environment over the defaults. An empty value counts as absent. */
export function resolveDirectories(environment: Environment, flags: DirectoryOverrides = {}): Directories {
  const state = flags.state || environment["NETCTL_STATE_DIR"] || "";
  return {
    conf: flags.conf || environment["NETCTL_CONF_DIR"] || "/etc/cni/net.d",
    bin: flags.bin || environment["NETCTL_BIN_DIR"] || "/opt/cni/bin",
    state: state || "/var/lib/netctl",
    run: flags.run || environment["NETCTL_RUN_DIR"] || "/run/netctl",
    leases: state ? `${state}/networks` : "/var/lib/cni/networks",
    results: state ? `${state}/results` : "/var/lib/cni/results",
  };
}
