import { expect, test } from "vitest";
import { parseIfName } from "#net/ifname.ts";
import { parseIp } from "#net/ip.ts";
import { formatElement, type Operation } from "./element.ts";
import { ingressElements } from "./ingress-policy.ts";
import { type NetworkPolicy, policyElements } from "./network-policy.ts";
import { newestPolicies } from "./newest-policy.ts";
import { ownerTag } from "./owner.ts";
import { keyed } from "./rival-ports.ts";

const plain: NetworkPolicy = {
  internal: false,
  icc: true,
  isolated: false,
  access: { 4: "open", 6: "open" },
  trusted: [],
};
const internal = { ...plain, internal: true };
const [br1, br2] = [parseIfName("br1"), parseIfName("br2")];
const own: Operation = { set: "masquerade4", key: [parseIp("10.1.0.2")], owner: ownerTag("n", "c", "eth0") };

test("the last policy of each interface is kept whole, and all that belongs to single attachments", () => {
  const operations = [
    ...policyElements(br1, internal),
    own,
    ...policyElements(br2, internal),
    ...ingressElements(br1, "isolated"),
    own,
    ...policyElements(br1, plain),
    ...ingressElements(br1, "same-bridge"),
  ];
  expect(
    newestPolicies(operations.map(keyed))
      .map(({ operation }) => formatElement(operation))
      .sort(),
  ).toEqual(
    [
      ...policyElements(br1, plain),
      ...policyElements(br2, internal),
      ...ingressElements(br1, "same-bridge"),
      own,
      own,
    ]
      .map(formatElement)
      .sort(),
  );
});
