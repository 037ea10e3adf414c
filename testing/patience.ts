/**
 * How many times as long as usual a test waits for an answer: NETCTL_TEST_PATIENCE, for a slow machine. What must not
 * come is waited for as long, so a test says silence after a second or two on a usual machine.
 */
export const patience = Number(process.env["NETCTL_TEST_PATIENCE"] ?? 1);
