declare const portBrand: unique symbol;

/** TCP, UDP or SCTP port, 1 to 65535. */
export type Port = number & { readonly [portBrand]: true };

/**
 * @param value number or decimal text
 * @throws {RangeError} not an integer of 1 to 65535
 */
export function parsePort(value: number | string): Port {
  const port = typeof value === "string" && /^[1-9]\d{0,4}$/.test(value) ? Number(value) : value;
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw new RangeError(`Cannot use ${JSON.stringify(value)} as port: must be an integer of 1 to 65535`);
  }
  return port as Port;
}
