import { loopbackPlugin } from "#plugins/loopback-plugin.ts";

/** The driver for containers without a network: they talk to themselves over `lo`. */
export const none = loopbackPlugin("none");
