import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { formatCidr } from "#net/cidr.ts";
import { goObject, parseConfig } from "./schema.ts";
import { cidr, emptyAsAbsent, int, ip, mac, oneOf, textList } from "./schema-values.ts";

const schema = goObject({
  bridge: v.optional(v.string(), "cni0"),
  isGateway: v.optional(v.boolean(), false),
  mtu: v.exactOptional(int({ min: 68, max: 65535 })),
  mode: v.optional(oneOf(["private", "vepa"]), "private"),
  gateway: emptyAsAbsent(ip),
  mac: emptyAsAbsent(mac),
  names: v.optional(textList, []),
  ipam: v.optional(goObject({ ranges: v.array(v.array(goObject({ subnet: cidr }))) })),
});

const parse = (value: unknown) => parseConfig(schema, value, { what: "bridge configuration" });
const messageFor = (value: unknown) => {
  try {
    parse(value);
  } catch (error) {
    return String(error);
  }
  return "accepted";
};

describe("goObject()", () => {
  it("fills in defaults", () => {
    expect(parse({})).toEqual({ bridge: "cni0", isGateway: false, mode: "private", names: [] });
  });

  it("matches keys in any case, the exact one first, as Go does", () => {
    expect(parse({ BRIDGE: "a", ISGATEWAY: true })).toMatchObject({ bridge: "a", isGateway: true });
    expect(parse({ BRIDGE: "a", bridge: "b", Bridge: "c" }).bridge).toBe("b");
    expect(parse({ IPAM: { Ranges: [[{ SUBNET: "10.0.0.0/8" }]] } }).ipam?.ranges[0]?.[0]?.subnet).toEqual(
      expect.objectContaining({ prefixLength: 8 }),
    );
  });

  it("takes null as absent and ignores keys it does not know", () => {
    expect(
      parse({ bridge: null, mtu: null, ipam: null, capabilities: { x: true }, "cni.dev/x": [] }),
    ).toEqual(parse({}));
  });

  it("does not find keys in the prototype, nor put them there", () => {
    const hostile: unknown = JSON.parse('{"__proto__":{"bridge":"evil"},"constructor":1}');
    expect(parse(hostile).bridge).toBe("cni0");
    expect(({} as Record<string, unknown>)["bridge"]).toBeUndefined();
  });

  it("turns text into values", () => {
    const { gateway, mac, ipam } = parse({
      gateway: "10.0.0.1",
      mac: "AA-BB-CC-DD-EE-FF",
      ipam: { ranges: [[{ subnet: "10.0.0.0/24" }]] },
    });
    expect(gateway).toEqual({ family: 4, value: 0x0a000001n });
    expect(mac).toBe("aa:bb:cc:dd:ee:ff");
    expect(ipam?.ranges.flat().map(({ subnet }) => formatCidr(subnet))).toEqual(["10.0.0.0/24"]);
  });

  it('takes "" for absent where the field says so', () => {
    const parsed = parse({ gateway: "", mac: "" });
    expect([parsed.gateway, parsed.mac]).toEqual([undefined, undefined]);
  });
});

describe("parseConfig()", () => {
  it("lists every problem with field and value, as code 7", () => {
    const bad = {
      mtu: "1500",
      isGateway: "true",
      mode: "x",
      names: ["a", 5],
      ipam: { ranges: [[{ subnet: "10.0.0.0/33" }]] },
    };
    expect(() => parse(bad)).toThrow(expect.objectContaining({ code: 7 }));
    expect(messageFor(bad)).toBe(
      [
        'CniError: Cannot use bridge configuration: isGateway "true" must be true or false',
        'mtu "1500" must be an integer of 68 to 65535',
        'mode "x" must be one of "private", "vepa"',
        "names[1] 5 must be a string",
        'ipam.ranges[0][0].subnet: Cannot parse CIDR "10.0.0.0/33": prefix length must be 0 to 32',
      ].join("; "),
    );
  });

  it.each([
    [{ mtu: 1.5 }, "mtu 1.5 must be an integer of 68 to 65535"],
    [{ mtu: 67 }, "mtu 67 must be an integer"],
    [{ mtu: 1e300 }, "mtu 1e+300 must be an integer"],
    [{ ipam: [] }, "ipam [] must be an object"],
    [{ ipam: {} }, "ipam.ranges is missing"],
    [{ ipam: { ranges: [{}] } }, "ipam.ranges[0] {} must be a list"],
    [{ gateway: "nope" }, 'gateway: Cannot parse IP address "nope"'],
    [{ gateway: 5 }, "gateway 5 must be a string"],
    [[], "[] must be an object"],
    ["x", '"x" must be an object'],
    [null, "null must be an object"],
    [{ mode: "y".repeat(5000) }, `mode "${"y".repeat(99)}…`],
  ])("%j: %s", (value, problem) => {
    expect(messageFor(value)).toContain(`Cannot use bridge configuration: ${problem}`);
  });
});
