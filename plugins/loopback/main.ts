import { loopbackPlugin } from "#plugins/loopback-plugin.ts";

/** Drop-in for the reference suite's plugin of this name, which runtimes call for every pod. */
export const loopback = loopbackPlugin("loopback");
