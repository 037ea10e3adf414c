import { describe, expect, it } from "vitest";
import { chooseHostPorts, portKey, readEphemeralPorts } from "./host-ports.ts";
import type { PortRequest } from "./port-request.ts";

const tcp = (more: Partial<PortRequest> = {}): PortRequest => ({
  protocol: "tcp",
  containerPort: 80,
  ...more,
});
const ephemeral = { span: { first: 40000, last: 40003 }, reserved: [{ first: 40001, last: 40002 }] };
const chosen = (requests: readonly PortRequest[], ...avoided: readonly number[]) =>
  chooseHostPorts(requests, ephemeral, new Set(avoided.map((port) => portKey(tcp(), port))))?.map(
    ({ hostPort }) => hostPort,
  );

describe("chooseHostPorts()", () => {
  it("keeps those about which there is no choice", () => {
    expect(chosen([tcp({ hostPorts: { first: 80, last: 80 } }), tcp({ hostPort: 40000 })], 80)).toEqual([
      80, 40000,
    ]);
  });

  it("takes the first of a range that nobody has", () => {
    const range = { hostPorts: { first: 8000, last: 8002 } };
    expect(chosen([tcp(range), tcp(range)], 8000)).toEqual([8001, 8002]);
    expect(chosen([tcp(range), tcp(range)], 8000, 8001)).toBeUndefined();
  });

  it("takes any that is neither reserved nor taken, of each protocol on its own", () => {
    for (let round = 0; round < 20; round++) {
      expect(chosen([tcp(), tcp()])?.toSorted((a = 0, b = 0) => a - b)).toEqual([40000, 40003]);
      expect(chosen([tcp()], 40000)).toEqual([40003]);
      expect(chosen([tcp({ protocol: "udp" }), tcp()], 40000)).toContain(40003);
    }
    expect(chosen([tcp()], 40000, 40003)).toBeUndefined();
  });
});

it("readEphemeralPorts() reads this host's", async () => {
  const { span } = await readEphemeralPorts();
  expect(span.first).toBeGreaterThan(0);
  expect(span.last).toBeLessThanOrEqual(65535);
});
