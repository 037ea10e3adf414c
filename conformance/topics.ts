import type { Topic } from "./case.ts";
import { badInputCases } from "./topics/bad-input.ts";
import { bandwidthCases } from "./topics/bandwidth.ts";
import { checkCases } from "./topics/bridge-check.ts";
import { collectionCases } from "./topics/bridge-collection.ts";
import { gatewayCases } from "./topics/bridge-gateway.ts";
import { interfaceCases } from "./topics/bridge-interfaces.ts";
import { masqueradeCases } from "./topics/bridge-masquerade.ts";
import { networkCases } from "./topics/bridge-network.ts";
import { refusalCases as bridgeRefusals } from "./topics/bridge-refusals.ts";
import { removalCases } from "./topics/bridge-removal.ts";
import { routeCases } from "./topics/bridge-routes.ts";
import { sourceCases } from "./topics/bridge-source.ts";
import { delegationCases } from "./topics/delegation.ts";
import { dhcpCases } from "./topics/dhcp.ts";
import { dummyCases } from "./topics/dummy.ts";
import { firewallCases } from "./topics/firewall.ts";
import { fuzzCases } from "./topics/fuzz.ts";
import { hostCases } from "./topics/host.ts";
import { hostDeviceCases } from "./topics/host-device.ts";
import { allocationCases } from "./topics/host-local-allocation.ts";
import { onRequestCases } from "./topics/host-local-on-request.ts";
import { refusalCases as hostLocalRefusals } from "./topics/host-local-refusals.ts";
import { storeCases } from "./topics/host-local-store.ts";
import { ipvlanCases } from "./topics/ipvlan.ts";
import { isolationCases } from "./topics/isolation.ts";
import { modeCases } from "./topics/isolation-modes.ts";
import { openingCases } from "./topics/isolation-openings.ts";
import { loopbackCases } from "./topics/loopback.ts";
import { macvlanCases } from "./topics/macvlan.ts";
import { nameCases } from "./topics/names.ts";
import { noneCases } from "./topics/none.ts";
import { overlayCases } from "./topics/overlay.ts";
import { clusterCases } from "./topics/overlay-cluster.ts";
import { bindingCases } from "./topics/portmap-binding.ts";
import { passThroughCases, reachCases } from "./topics/portmap-reach.ts";
import { portRefusalCases, portRemovalCases } from "./topics/portmap-removal.ts";
import { environmentCases } from "./topics/protocol-environment.ts";
import { stdinCases } from "./topics/protocol-stdin.ts";
import { versionCases } from "./topics/protocol-versions.ts";
import { ptpCases } from "./topics/ptp.ts";
import { sbrCases } from "./topics/sbr.ts";
import { staticCases } from "./topics/static.ts";
import { tapCases } from "./topics/tap.ts";
import { tuningCases } from "./topics/tuning.ts";
import { vlanCases } from "./topics/vlan.ts";
import { vrfCases } from "./topics/vrf.ts";

/** Everything the kit checks, in the order of the table. */
export const topics: readonly Topic[] = [
  {
    name: "protocol",
    executables: ["bridge", "host-local"],
    cases: [...environmentCases, ...versionCases, ...stdinCases],
  },
  { name: "delegation", executables: ["bridge"], cases: delegationCases },
  {
    name: "bridge",
    executables: ["bridge", "host-local"],
    cases: [
      ...interfaceCases,
      ...networkCases,
      ...masqueradeCases,
      ...gatewayCases,
      ...routeCases,
      ...sourceCases,
      ...bridgeRefusals,
      ...removalCases,
      ...checkCases,
      ...collectionCases,
    ],
  },
  {
    name: "host-local",
    executables: ["host-local"],
    cases: [...allocationCases, ...onRequestCases, ...storeCases, ...hostLocalRefusals],
  },
  { name: "static", executables: ["static"], cases: staticCases },
  {
    name: "portmap",
    executables: ["portmap", "bridge", "host-local"],
    cases: [...reachCases, ...bindingCases, ...passThroughCases, ...portRefusalCases, ...portRemovalCases],
  },
  { name: "firewall", executables: ["firewall", "bridge", "host-local"], cases: firewallCases },
  {
    name: "isolation",
    executables: ["bridge", "host-local", "portmap"],
    cases: [...isolationCases, ...modeCases, ...openingCases],
  },
  { name: "names", executables: ["dns", "bridge", "host-local"], cases: nameCases },
  { name: "tuning", executables: ["tuning", "bridge", "host-local"], cases: tuningCases },
  { name: "bandwidth", executables: ["bandwidth", "bridge", "host-local"], cases: bandwidthCases },
  { name: "dhcp", executables: ["dhcp"], cases: dhcpCases },
  { name: "vrf", executables: ["vrf", "bridge", "host-local"], cases: vrfCases },
  { name: "sbr", executables: ["sbr", "bridge", "host-local"], cases: sbrCases },
  { name: "loopback", executables: ["loopback"], cases: loopbackCases },
  { name: "ptp", executables: ["ptp", "host-local"], cases: ptpCases },
  { name: "tap", executables: ["tap", "host-local"], cases: tapCases },
  { name: "macvlan", executables: ["macvlan", "host-local", "static"], cases: macvlanCases },
  { name: "ipvlan", executables: ["ipvlan", "host-local", "static"], cases: ipvlanCases },
  { name: "vlan", executables: ["vlan", "host-local", "static"], cases: vlanCases },
  { name: "dummy", executables: ["dummy", "host-local"], cases: dummyCases },
  { name: "overlay", executables: ["overlay-vxlan"], cases: [...clusterCases, ...overlayCases] },
  { name: "host-device", executables: ["host-device", "host-local"], cases: hostDeviceCases },
  { name: "host", executables: ["host"], cases: hostCases },
  { name: "none", executables: ["none"], cases: noneCases },
  { name: "bad-input", executables: ["bridge", "host-local"], cases: badInputCases },
  { name: "fuzz", executables: ["bridge", "host-local"], cases: fuzzCases },
];
