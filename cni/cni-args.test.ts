import { describe, expect, it } from "vitest";
import { parseCniArgs, salvageCniArgs, selectCniArgs } from "./cni-args.ts";

const kubelet =
  "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;IP=10.0.0.5";

describe("parseCniArgs()", () => {
  it("keeps order, doubles, empty keys and values", () => {
    expect(parseCniArgs("")).toEqual([]);
    expect(parseCniArgs("B=2;A=1;B=;=x")).toEqual([
      ["B", "2"],
      ["A", "1"],
      ["B", ""],
      ["", "x"],
    ]);
  });

  it.each([
    ["A", "A"],
    ["A=1;", ""],
    [";A=1", ""],
    ["A=1=2", "A=1=2"],
    ["A=1;B", "B"],
  ])("refuses %j as the reference does", (text, pair) => {
    expect(() => parseCniArgs(text)).toThrow(`ARGS: invalid pair ${JSON.stringify(pair)}`);
    expect(() => parseCniArgs(text)).toThrow(expect.objectContaining({ code: 4 }));
  });
});

it("salvageCniArgs() keeps the pairs that can be read", () => {
  expect(salvageCniArgs("A=1;;B;C=2=3;D=4")).toEqual([
    ["A", "1"],
    ["D", "4"],
  ]);
});

describe("selectCniArgs()", () => {
  it("gives the known keys, the last of several, and lets others pass with IgnoreUnknown", () => {
    expect(selectCniArgs(parseCniArgs(kubelet), ["IP", "GATEWAY"])).toEqual({ IP: "10.0.0.5" });
    expect(selectCniArgs(parseCniArgs("MAC=a;MAC=b"), ["MAC"])).toEqual({ MAC: "b" });
    expect(selectCniArgs(parseCniArgs("X=1;IgnoreUnknown=True"), [])).toEqual({});
  });

  it("refuses other keys, keys in another case among them", () => {
    expect(() => selectCniArgs(parseCniArgs("ip=10.0.0.5;X=1"), ["IP"])).toThrow(
      'ARGS: unknown args ["ip=10.0.0.5" "X=1"]',
    );
    expect(() => selectCniArgs(parseCniArgs("IgnoreUnknown=0;X=1"), ["IP"])).toThrow("unknown args");
    expect(() => selectCniArgs(parseCniArgs("IgnoreUnknown=1;IgnoreUnknown=0;X=1"), [])).toThrow(
      "unknown args",
    );
  });

  it("refuses an IgnoreUnknown that is no boolean", () => {
    expect(() => selectCniArgs(parseCniArgs("IgnoreUnknown=yes"), [])).toThrow(
      'error parsing value of pair "IgnoreUnknown=yes"',
    );
  });
});
