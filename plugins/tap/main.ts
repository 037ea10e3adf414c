import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { tapDriver } from "./driver.ts";

/** Gives the container a tap device, by which a virtual machine in it gets its frames. */
export const tap = interfacePlugin(tapDriver);
