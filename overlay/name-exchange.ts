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
  /** @param all what `change` has told so far, for a resolver that starts anew */
  begin(all: () => readonly (ForeignName & ContainerNames)[]): void;
  change(put: readonly (ForeignName & ContainerNames)[], gone: readonly ForeignName[]): void;
  /** @returns ends it */
  onChange(listener: () => void): () => void;
}
