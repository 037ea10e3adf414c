import type { IfName } from "#net/ifname.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** The name of a link that is to be made is taken in that namespace. */
export class LinkExistsError extends Error {
  readonly linkName: IfName;
  readonly namespace: NetworkNamespace;

  constructor(name: IfName, namespace: NetworkNamespace, cause?: unknown) {
    super(
      `Cannot create link ${JSON.stringify(name)}: there is one in network namespace ${namespace.path}`,
      cause === undefined ? undefined : { cause },
    );
    this.name = "LinkExistsError";
    this.linkName = name;
    this.namespace = namespace;
  }
}

/** A link that has to be a bridge is something else. */
export class NotABridgeError extends Error {
  readonly linkName: IfName;

  constructor(name: IfName, kind: string | undefined) {
    super(
      `${JSON.stringify(name)} already exists but is not a bridge${kind === undefined ? "" : ` (it is a ${kind})`}`,
    );
    this.name = "NotABridgeError";
    this.linkName = name;
  }
}

/** BR_MAX_PORTS (net/bridge/br_private.h) is 1024, and port 0 is not used. */
const maxPorts = 1023;

/** The bridge takes no further port. */
export class BridgeFullError extends Error {
  /** EXFULL, which br_add_if() answers then */
  static readonly errno = 54;

  constructor(name: IfName, cause: unknown) {
    super(
      `Cannot add a port to bridge ${JSON.stringify(name)}: it has ${maxPorts}, and Linux gives a bridge no more; use another bridge`,
      { cause },
    );
    this.name = "BridgeFullError";
  }
}

/** This kernel was built without something that is asked for. */
export class UnsupportedByKernelError extends Error {
  constructor(what: string, option: string, cause?: unknown) {
    super(
      `Cannot ${what}: this kernel was built without ${option}`,
      cause === undefined ? undefined : { cause },
    );
    this.name = "UnsupportedByKernelError";
  }
}

/** A link can't have another one on it. */
export class ParentRefusedError extends Error {
  readonly parentName: string;

  constructor(kind: string, parentName: string, reason: string, cause?: unknown) {
    super(
      `Cannot create ${kind} on ${JSON.stringify(parentName)}: ${reason}`,
      cause === undefined ? undefined : { cause },
    );
    this.name = "ParentRefusedError";
    this.parentName = parentName;
  }
}
