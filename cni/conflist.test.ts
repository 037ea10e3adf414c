import { describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseConf, parseConfList, parsePluginConf } from "./conflist.ts";
import { requestConfig } from "./request-config.ts";
import { emptyResult } from "./result.ts";

const list = (fields: object) =>
  parseConfList(JSON.stringify({ name: "net1", plugins: [{ type: "bridge" }], ...fields }));

describe("parseConfList()", () => {
  it("reads a list", () => {
    const parsed = list({
      cniVersion: "1.0.0",
      disableCheck: true,
      disableGC: "TRUE",
      loadOnlyInlinedPlugins: "false",
      plugins: [
        { type: "bridge", mtu: 1400 },
        { type: "portmap", capabilities: { portMappings: true, x: false } },
      ],
    });
    expect(parsed).toMatchObject({
      name: "net1",
      cniVersion: "1.0.0",
      disableCheck: true,
      disableGc: true,
      loadOnlyInlinedPlugins: false,
      plugins: [
        { type: "bridge", capabilities: [], json: { type: "bridge", mtu: 1400 } },
        { type: "portmap", capabilities: ["portMappings"] },
      ],
    });
  });

  it.each([
    [{}, "0.1.0"],
    [{ cniVersion: "" }, "0.1.0"],
    [{ cniVersions: ["0.4.0", "1.1.0", "1.0.0"] }, "1.1.0"],
    [{ cniVersion: "1.0.0", cniVersions: ["0.3.1"] }, "1.0.0"],
    [{ cniVersion: "0.4.0", cniVersions: ["1.0.0", "9.0.0"] }, "1.0.0"],
    [{ cniVersion: "9.0.0", cniVersions: ["0.4.0"] }, "0.4.0"],
  ])("speaks the highest version it knows: %j gives %s", (fields, version) => {
    expect(list(fields).cniVersion).toBe(version);
  });

  it.each([
    [{ cniVersion: "9.0.0" }, 1, "incompatible CNI versions"],
    [{ cniVersion: 1 }, 7, "cniVersion 1 must be a string"],
    [{ cniVersions: "1.0.0" }, 7, 'cniVersions "1.0.0" must be a list of strings'],
    [{ cniVersions: [1] }, 7, "cniVersions [1] must be a list of strings"],
    [{ name: "" }, 7, "no name"],
    [{ name: undefined }, 7, "no name"],
    [{ name: 5 }, 7, "name 5 must be a string"],
    [{ name: "../x" }, 7, 'name "../x" must start with a letter or digit'],
    [{ disableGC: "maybe" }, 7, 'disableGC "maybe" must be true or false'],
    [{ disableCheck: 1 }, 7, "disableCheck 1 must be true or false"],
    [{ plugins: [] }, 7, "no plugins in list"],
    [{ plugins: {} }, 7, "plugins {} must be a list"],
    [{ plugins: ["bridge"] }, 7, "plugins[0] must be an object"],
    [{ plugins: [{ type: "a" }, {}] }, 7, "missing 'plugins[1].type'"],
    [
      { plugins: [{ type: "a", capabilities: { ips: "yes" } }] },
      7,
      'plugins[0].capabilities.ips "yes" must be true or false',
    ],
    [{ plugins: undefined, loadOnlyInlinedPlugins: true }, 7, "there is no plugins key"],
  ])("refuses %j", (fields, code, message) => {
    expect(() => list(fields)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) as unknown }),
    );
  });

  it.each(["", "{", "[]", "5"])("refuses the text %j", (text) => {
    expect(() => parseConfList(text)).toThrow(expect.objectContaining({ code: 6 }));
    expect(() => parsePluginConf(text)).toThrow(expect.objectContaining({ code: 6 }));
  });

  it("may have no plugins of its own, if they come from files", () => {
    expect(list({ plugins: undefined }).plugins).toEqual([]);
    expect(parsePluginConf('{"type":"tuning","mtu":1400}')).toMatchObject({
      type: "tuning",
      json: { mtu: 1400 },
    });
  });
});

it("parseConf() makes a list of a plain .conf", () => {
  const plugin = { cniVersion: "0.4.0", name: "old", type: "ptp" };
  expect(parseConf(JSON.stringify(plugin))).toMatchObject({
    name: "old",
    cniVersion: "0.4.0",
    plugins: [{ type: "ptp", json: plugin }],
  });
  expect(() => parseConf('{"type":"ptp"}')).toThrow("no name");
});

describe("requestConfig()", () => {
  const network = list({
    cniVersion: "0.4.0",
    plugins: [
      { Name: "other", type: "portmap", snat: false, capabilities: { portMappings: true, mac: false } },
    ],
  });
  const [plugin = parsePluginConf("{}")] = network.plugins;

  it("is the plugin's own object with name and version of the list", () => {
    expect(requestConfig(network, plugin)).toEqual({
      name: "net1",
      cniVersion: "0.4.0",
      type: "portmap",
      snat: false,
      capabilities: { portMappings: true, mac: false },
    });
  });

  it("gets those capability arguments that the plugin declares true", () => {
    const capabilityArgs = { portMappings: [{ hostPort: 80 }], mac: "02:00:00:00:00:01", ips: ["10.0.0.1"] };
    expect(requestConfig(network, plugin, { capabilityArgs })["runtimeConfig"]).toEqual({
      portMappings: [{ hostPort: 80 }],
    });
    expect(requestConfig(network, plugin, { capabilityArgs: { ips: [] } })).not.toHaveProperty(
      "runtimeConfig",
    );
  });

  it("gets the result so far in the list's version", () => {
    const prevResult = { ...emptyResult, ips: [{ address: parseCidr("10.0.0.5/24") }] };
    expect(requestConfig(network, plugin, { prevResult })["prevResult"]).toEqual({
      cniVersion: "0.4.0",
      ips: [{ version: "4", address: "10.0.0.5/24" }],
      dns: {},
    });
  });

  it("gets the attachments to keep under both keys, an empty list too", () => {
    const json = requestConfig(network, plugin, {
      validAttachments: [{ containerId: "c1", ifName: "eth0" }],
    });
    expect(json["cni.dev/valid-attachments"]).toEqual([{ containerID: "c1", ifname: "eth0" }]);
    expect(json["cni.dev/attachments"]).toEqual([{ containerID: "c1", ifname: "eth0" }]);
    expect(requestConfig(network, plugin, { validAttachments: [] })["cni.dev/valid-attachments"]).toEqual([]);
  });
});
