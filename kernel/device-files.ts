import { readdir, readlink, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { errorCode, IoError } from "#machine/io-error.ts";

/**
 * Where the kernel shows the devices of the machine: /sys, mounted in the network namespace of the host. Which of them
 * are network devices of that namespace shows in the folders called `net`.
 */
export class DeviceFiles {
  readonly #root: string;

  /** @param root /sys, unless something else plays the host */
  constructor(root = "/sys") {
    this.#root = root;
  }

  /** The folder of a PCI device, such as "0000:03:00.0"; undefined if there is none. @throws {IoError} */
  async findPci(address: string): Promise<string | undefined> {
    return await this.#existing(join(this.#root, "bus/pci/devices", address));
  }

  /** The folder of a device of the auxiliary bus, such as "mlx5_core.sf.4"; undefined if there is none. @throws {IoError} */
  async findAuxiliary(name: string): Promise<string | undefined> {
    return await this.#existing(join(this.#root, "bus/auxiliary/devices", name));
  }

  /** The folder that /sys has under an absolute path that begins with "/sys". @throws {IoError} */
  async find(path: string): Promise<string | undefined> {
    return await this.#existing(join(this.#root, path.replace(/^\/sys(\/|$)/, "")));
  }

  /** Name of the driver that a device is bound to, such as "vfio-pci". @throws {IoError} */
  async driverOf(folder: string): Promise<string | undefined> {
    const path = join(folder, "driver");
    try {
      return basename(await readlink(path));
    } catch (cause) {
      if (isAbsent(cause)) return undefined;
      throw new IoError("read link", path, cause);
    }
  }

  /**
   * Names of the network devices that a device is, in the kernel's order: several for a card with several ports, none
   * while a container has it. A virtio device stands a folder deeper, below its PCI device.
   * @throws {IoError}
   */
  async interfacesOf(folder: string): Promise<readonly string[]> {
    const direct = await this.#entries(join(folder, "net"));
    if (direct.length > 0) return direct;
    const below = (await this.#entries(folder)).filter((name) => name.startsWith("virtio"));
    const names = await Promise.all(below.map((name) => this.#entries(join(folder, name, "net"))));
    return names.flat();
  }

  async #existing(path: string): Promise<string | undefined> {
    try {
      await stat(path);
      return path;
    } catch (cause) {
      if (isAbsent(cause)) return undefined;
      throw new IoError("look at", path, cause);
    }
  }

  async #entries(path: string): Promise<readonly string[]> {
    try {
      return await readdir(path);
    } catch (cause) {
      if (isAbsent(cause)) return [];
      throw new IoError("list", path, cause);
    }
  }
}

function isAbsent(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR", "ENODEV", "ENXIO"].includes(errorCode(error) ?? "");
}
