import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { ptpDriver } from "./driver.ts";

/** Connects each container to the host by a veth pair and routes, without a bridge. */
export const ptp = interfacePlugin(ptpDriver);
