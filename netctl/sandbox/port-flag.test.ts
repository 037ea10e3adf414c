import { describe, expect, it } from "vitest";
import { UsageFailure } from "#netctl/failure.ts";
import { parseExpose, parsePublish } from "./port-flag.ts";

const shown = (text: string) =>
  parsePublish(text).map(
    ({ protocol, hostIp = "*", hostPorts, containerPort }) =>
      `${hostIp} ${hostPorts ? `${hostPorts.first}-${hostPorts.last}` : "?"} ${containerPort}/${protocol}`,
  );

describe("parsePublish()", () => {
  it.each<[string, readonly string[]]>([
    ["80", ["* ? 80/tcp"]],
    ["80/UDP", ["* ? 80/udp"]],
    ["8080:80", ["* 8080-8080 80/tcp"]],
    ["53:53/udp", ["* 53-53 53/udp"]],
    ["127.0.0.1:8080:80", ["127.0.0.1 8080-8080 80/tcp"]],
    ["127.0.0.1::80", ["127.0.0.1 ? 80/tcp"]],
    ["0.0.0.0:8080:80", ["0.0.0.0 8080-8080 80/tcp"]],
    ["[2001:db8::1]:8080:80", ["2001:db8::1 8080-8080 80/tcp"]],
    ["[::]::80", [":: ? 80/tcp"]],
    ["2001:db8::1:8080:80", ["2001:db8::1 8080-8080 80/tcp"]],
    ["8000-8002:80", ["* 8000-8002 80/tcp"]],
    ["8000-8001:9000-9001", ["* 8000-8000 9000/tcp", "* 8001-8001 9001/tcp"]],
    ["3000-3001/sctp", ["* ? 3000/sctp", "* ? 3001/sctp"]],
  ])("reads %s", (text, expected) => {
    expect(shown(text)).toEqual(expected);
  });

  it.each([
    ["", '"" is no container port'],
    ["0", '"0" is no container port'],
    ["65536:80", '"65536" is no host port'],
    ["80:", '"" is no container port'],
    ["8000-8001:80-82", "2 ports of the host for 3 of the container"],
    ["82-80:80", '"82-80" is no host port'],
    ["80/icmp", 'protocol "icmp" is none of tcp, udp, sctp'],
    ["localhost:80:80", '"localhost" is no IP address'],
    ["[::1]:1:2:3", "expected [ADDRESS]:HOSTPORT:PORT"],
  ])("refuses %j", (text, message) => {
    expect(() => parsePublish(text)).toThrow(UsageFailure);
    expect(() => parsePublish(text)).toThrow(`Cannot use --publish ${text}: ${message}`);
  });

  it("reads what is exposed", () => {
    expect(parseExpose("53/udp")).toEqual([{ protocol: "udp", containerPort: 53 }]);
    expect(parseExpose("80-81")).toHaveLength(2);
    expect(() => parseExpose("8080:80")).toThrow("Cannot use --expose 8080:80");
  });
});
