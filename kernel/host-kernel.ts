import { DeviceFiles } from "./device-files.ts";
import { type NamespaceTarget, NetworkNamespace } from "./namespace.ts";

export interface HostKernelOptions {
  /** The namespace in which host-side interfaces are made; that of the process if absent. */
  readonly namespacePath?: string;
  /** /sys, mounted in that namespace; the process's own if absent. */
  readonly devicesPath?: string;
}

/**
 * The kernel as the plugins see it: the host's namespace, held for as long as the process lives, and the
 * containers' namespaces, opened for one verb each. "Host" is whatever the caller says, so that tests, rootless use
 * and several simulated hosts on one machine are nothing special.
 */
export class HostKernel {
  readonly deviceFiles: DeviceFiles;
  readonly #namespacePath: string;
  #namespace: NetworkNamespace | undefined;

  private constructor({ namespacePath, devicesPath }: HostKernelOptions) {
    this.#namespacePath = namespacePath ?? "/proc/self/ns/net";
    this.deviceFiles = new DeviceFiles(devicesPath);
  }

  /** Opens nothing yet: a verb that needs no kernel costs nothing. */
  static open(options: HostKernelOptions = {}): HostKernel {
    return new HostKernel(options);
  }

  /**
   * The host's namespace. Shared by all verbs: never close it.
   * @throws {NamespaceError}
   */
  get namespace(): NetworkNamespace {
    this.#namespace ??= NetworkNamespace.open(this.#namespacePath);
    return this.#namespace;
  }

  /**
   * Opens a container's namespace. The caller closes it when the verb is done, since an open handle keeps the
   * namespace and its interfaces alive.
   * @throws {NamespaceError}
   */
  open(target: string | NamespaceTarget): NetworkNamespace {
    return NetworkNamespace.open(target);
  }

  /** At the end of the process. Safe to call twice. */
  close(): void {
    this.#namespace?.close();
    this.#namespace = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
