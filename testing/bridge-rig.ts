import type { JsonObject } from "#cni/json.ts";
import { bridge } from "#plugins/bridge/main.ts";
import { InterfaceRig } from "./interface-rig.ts";
import type { TestHostOptions } from "./plugin-host.ts";

export type { Attached, IpLink } from "./interface-rig.ts";

/** A host with the bridge plugin. */
export class BridgeRig extends InterfaceRig {
  constructor(options: TestHostOptions = {}) {
    super(bridge, options);
  }

  override config(extra: JsonObject = {}): JsonObject {
    return super.config({ bridge: "br1", ...extra });
  }
}
