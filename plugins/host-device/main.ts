import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { hostDeviceDriver } from "./driver.ts";

/** Lends a network device of the host to a container. */
export const hostDevice = interfacePlugin(hostDeviceDriver);
