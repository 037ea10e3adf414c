import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseIfName } from "#net/ifname.ts";
import { parseMac } from "#net/mac.ts";
import { isAnswered, isSilent } from "#testing/echo.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { macSpoofElements, macSpoofRefs } from "./mac-spoof.ts";
import { Nftables } from "./nftables.ts";
import { ownerTag } from "./owner.ts";

const owner = ownerTag("net", "c1", "eth0");
const attachment = { port: parseIfName("c1"), mac: parseMac("02:00:00:00:00:01") };
let host: TestNamespace;
let containers: readonly TestNamespace[];
let nftables: Nftables;

function container(number: number): TestNamespace {
  const found = containers[number - 1];
  if (!found) throw new Error(`There is no container ${number}`);
  return found;
}
const reaches = (from: number, to: number) => isAnswered(container(from), `10.88.0.${to}`);

function setMac(container: number, mac: string): void {
  containers[container - 1]?.run(`ip link set eth0 address ${mac}; ip neigh flush all`);
  for (const other of containers) other.run("ip neigh flush all");
}

beforeAll(() => {
  host = TestNamespace.create("host");
  host.run("ip link add br0 type bridge forward_delay 0; ip link set br0 up");
  containers = [1, 2, 3].map((number) => {
    const made = TestNamespace.create(`c${number}`);
    host.run(`
      ip link add c${number} type veth peer name eth0 address 02:00:00:00:00:0${number} netns ${made.name}
      ip link set c${number} master br0 up`);
    made.run(`ip address add 10.88.0.${number}/24 dev eth0; ip link set eth0 up`);
    return made;
  });
  nftables = new Nftables({ namespacePath: host.path });
});

afterAll(() => {
  nftables.close();
  for (const each of [...containers, host]) each.remove();
});

// One after the other: each begins with what the one before has left.
describe("macSpoofElements", { shuffle: false }, () => {
  it("let the container's own address pass", async () => {
    expect(reaches(1, 2)).toBe(true);
    await nftables.apply(macSpoofElements({ ...attachment, owner }));
    expect(reaches(1, 2)).toBe(true);
  });

  it("drop frames from any other, even from a neighbour's", () => {
    for (const spoofed of ["02:00:00:00:00:99", "02:00:00:00:00:03"]) {
      setMac(1, spoofed);
      expect(isSilent(container(1), "10.88.0.2")).toBe(true);
    }
    setMac(1, attachment.mac);
    expect(reaches(1, 2)).toBe(true);
  });

  it("leave the other ports alone", () => {
    setMac(2, "02:00:00:00:00:99");
    expect(reaches(2, 3)).toBe(true);
  });

  it("end with the attachment", async () => {
    await nftables.removeOwned(macSpoofRefs(attachment), owner);
    setMac(1, "02:00:00:00:00:98");
    expect(reaches(1, 2)).toBe(true);
    expect(await nftables.list("macAllowed")).toEqual([]);
    expect(await nftables.list("macChecked")).toEqual([]);
  });
});
