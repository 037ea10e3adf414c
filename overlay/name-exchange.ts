/** What one container is called in one network. */
export interface ContainerNames {
  /** In lower case. */
  readonly names: readonly string[];
  /** With the prefix length of its host's block: `10.128.3.66/26`. */
  readonly addresses: readonly string[];
  readonly domain?: string;
}

export interface LocalNames extends ContainerNames {
  readonly containerId: string;
  readonly ifName: string;
}

/** A container on another host. */
export interface ForeignName {
  readonly network: string;
  /** The same for the same attachment, and different from all others of the cluster. No "/" in it. */
  readonly id: string;
}

/** Where the agent gets the names of this host's containers from, and leaves those of the other hosts. */
export interface NameExchange {
  /** Of containers that there are: one whose namespace has gone is not among them. */
  local(network: string): readonly LocalNames[];
  /** @param all what there is of the other hosts', for a resolver that starts anew: gone through piece by piece */
  begin(all: () => Iterable<ForeignName & ContainerNames>): void;
  /**
   * Brings the resolver to know these, and no longer those. What is given in order is taken in order.
   * @param put not gone through where there is no resolver: `begin` has told what it asks for when it starts
   * @returns when it has taken them in
   */
  change(put: Iterable<ForeignName & ContainerNames>, gone: readonly ForeignName[]): Promise<void>;
  /** @returns ends it */
  onChange(listener: () => void): () => void;
}
