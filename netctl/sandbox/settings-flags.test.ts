import { describe, expect, it } from "vitest";
import { parseSandboxSettings, type SettingsFlags } from "./settings-flags.ts";

const none: SettingsFlags = { dns: [], dnsSearch: [], dnsOption: [], addHost: [], sysctl: [], label: [] };
const parse = (flags: Partial<SettingsFlags>) => parseSandboxSettings({ ...none, ...flags });

describe("docker run's flags of the network", () => {
  it("are read", () => {
    expect(
      parse({
        hostname: "app1.test",
        dns: ["9.9.9.9", "2620:FE::fe"],
        dnsSearch: ["a.test", "."],
        dnsOption: ["ndots:2"],
        addHost: ["db:10.0.0.1", "six=fd00::1", "seven:[fd00::7]", "me:host-gateway"],
        sysctl: [
          "net.ipv4.ip_forward=0",
          "net/ipv4/conf/eth0.5/rp_filter=2",
          "net.ipv4.ping_group_range=0 10",
        ],
        label: ["tier=web", "bare"],
      }),
    ).toEqual({
      hostname: "app1.test",
      dns: { servers: ["9.9.9.9", "2620:fe::fe"], search: ["a.test", "."], options: ["ndots:2"] },
      extraHosts: [
        { name: "db", address: "10.0.0.1" },
        { name: "six", address: "fd00::1" },
        { name: "seven", address: "fd00::7" },
        { name: "me", address: "host-gateway" },
      ],
      sysctls: {
        "net/ipv4/ip_forward": "0",
        "net/ipv4/conf/eth0.5/rp_filter": "2",
        "net/ipv4/ping_group_range": "0 10",
      },
      labels: { tier: "web", bare: "" },
    });
  });

  it.each<[Partial<SettingsFlags>, string]>([
    [{ hostname: "a b" }, "--hostname a b"],
    [{ dns: ["dns.test"] }, "--dns dns.test"],
    [{ dnsSearch: ["a b"] }, "--dns-search a b"],
    [{ dnsOption: [""] }, "--dns-option"],
    [{ addHost: ["db"] }, "--add-host db"],
    [{ addHost: ["db:nine"] }, "--add-host db:nine"],
    [{ sysctl: ["kernel.shmmax=1"] }, "--sysctl kernel.shmmax=1"],
    [{ sysctl: ["net/../kernel/x=1"] }, "--sysctl net/../kernel/x=1"],
    [{ sysctl: ["net.ipv4.ip_forward"] }, "--sysctl net.ipv4.ip_forward"],
  ])("are refused by name and value: %j", (flags, named) => {
    expect(() => parse(flags)).toThrow(named);
  });
});
