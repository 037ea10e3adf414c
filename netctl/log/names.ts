import { networkId, sandboxContainerId } from "#runtime/network-id.ts";
import type { LogLine } from "./line.ts";

/** What people call the containers of the lines, also of those that are gone by now. */
export class ContainerNames {
  readonly #names: Map<string, string>;

  /** @param sandboxes names of those that there are */
  constructor(sandboxes: readonly string[]) {
    this.#names = new Map(sandboxes.map((name) => [sandboxContainerId(name), name]));
  }

  /** Learns from each line that passes. */
  learn({ containerId, name, event }: LogLine): void {
    const told = event?.type === "container" ? (event.attributes?.["name"] ?? "") : name;
    if (containerId !== "" && told !== "") this.#names.set(containerId, told);
  }

  /** Undefined where nobody has said. */
  find(containerId: string): string | undefined {
    return this.#names.get(containerId);
  }

  /** Its name, else its short id. */
  show(containerId: string): string {
    return this.find(containerId) ?? containerId.slice(0, 12);
  }
}

/** What an event is about: the id that Docker gives as its actor. */
export function actorId({ event, network, containerId }: LogLine): string {
  if (event?.type === "network") return networkId(network);
  return containerId;
}
