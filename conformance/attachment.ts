import type { JsonObject } from "#cni/json.ts";
import { expect } from "./failure.ts";
import type { CallOptions, Container, Lab } from "./lab.ts";
import type { PrintedInterface, PrintedIp, PrintedResult } from "./printed-result.ts";
import type { Reply } from "./reply.ts";

/** One container on one network, after a successful ADD. */
export class Attachment {
  readonly lab: Lab;
  readonly config: JsonObject;
  readonly container: Container;
  readonly ifName: string;
  readonly args: string | undefined;
  /** The executable, where it is not the config's type. */
  readonly plugin: string | undefined;
  readonly result: PrintedResult;
  #deleted = false;

  constructor(
    lab: Lab,
    given: {
      readonly config: JsonObject;
      readonly container: Container;
      readonly ifName: string;
      readonly args: string | undefined;
      readonly plugin: string | undefined;
      readonly result: PrintedResult;
    },
  ) {
    this.lab = lab;
    this.config = given.config;
    this.container = given.container;
    this.ifName = given.ifName;
    this.args = given.args;
    this.plugin = given.plugin;
    this.result = given.result;
  }

  get deleted(): boolean {
    return this.#deleted;
  }

  /** First address of the family, without prefix. */
  ip(family: 4 | 6 = 4): string {
    const found = this.result.ips.find((entry) => entry.ip.includes(":") === (family === 6));
    expect(found !== undefined, `the result has no IPv${family} address`);
    return found.ip;
  }

  address(at = 0): PrintedIp {
    const found = this.result.ips[at];
    expect(found !== undefined, `the result has no ips[${at}]`);
    return found;
  }

  /** The container's interface in the result. */
  inside(): PrintedInterface {
    const found = this.result.interfaces.find((entry) => entry.sandbox !== "");
    expect(found !== undefined, "the result has no interface with a sandbox");
    return found;
  }

  /** The host side of the veth pair in the result: on the host, and not the bridge. */
  hostSide(): PrintedInterface {
    const bridge = this.config["bridge"];
    const found = this.result.interfaces.find((entry) => entry.sandbox === "" && entry.name !== bridge);
    expect(found !== undefined, "the result has no host side of the veth pair");
    return found;
  }

  /** CHECK with the result of the ADD, changed by `fields`. */
  check(fields: JsonObject = {}): Promise<Reply> {
    return this.call("CHECK", { ...this.config, prevResult: this.result.json, ...fields });
  }

  /** DEL as a runtime does it: with the netns and the result of the ADD. */
  async del(options: Partial<CallOptions> = {}): Promise<Reply> {
    const reply = await this.call("DEL", this.config, options);
    if (reply.succeeded) this.#deleted = true;
    return reply;
  }

  /** DEL with the result of the ADD (0.4.0 and newer have it). */
  delWithResult(options: Partial<CallOptions> = {}): Promise<Reply> {
    return this.del({ config: { ...this.config, prevResult: this.result.json }, ...options });
  }

  /** For a case in which the attachment goes by other means than its own DEL. */
  forget(): void {
    this.#deleted = true;
  }

  call(verb: string, config: JsonObject, options: Partial<CallOptions> = {}): Promise<Reply> {
    return this.lab.call(verb, config, {
      container: this.container,
      ifName: this.ifName,
      ...(this.args === undefined ? {} : { args: this.args }),
      ...(this.plugin === undefined ? {} : { plugin: this.plugin }),
      ...options,
    });
  }
}
