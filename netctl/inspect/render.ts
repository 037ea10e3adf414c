import type { Colors } from "#netctl/io.ts";
import { renderTree, type TreeNode } from "#netctl/tree.ts";
import { isOverlayDeviceName } from "#overlay/identity.ts";
import type {
  AttachmentView,
  BridgeView,
  Inspection,
  LinkView,
  NetworkView,
  OverlayView,
  SandboxView,
} from "./model.ts";

/**
 * The inspection as trees for people: networks, then sandboxes. What does not agree begins with "!".
 * @param known all sandboxes, whose names stand for their container ids, also where they are not among those shown
 */
export function renderInspection(
  inspection: Inspection,
  known: readonly SandboxView[],
  colors: Colors,
): string {
  const { networks, sandboxes, problems } = inspection;
  const drawing = new Drawing(colors);
  const names = new Map(known.map(({ containerId, name }) => [containerId, name]));
  const trees = [
    ...networks.map((network) => drawing.network(network, names)),
    ...sandboxes.map((sandbox) => drawing.sandbox(sandbox)),
    ...problems.map((problem) => drawing.warning(problem)),
  ];
  return trees.length === 0
    ? "nothing here: no network is configured, and there is no sandbox\n"
    : renderTree(trees);
}

class Drawing {
  readonly #colors: Colors;

  constructor(colors: Colors) {
    this.#colors = colors;
  }

  network(network: NetworkView, names: ReadonlyMap<string, string>): TreeNode {
    const { name, plugins, subnets, bridges, attachments, overlay, blocked, differences } = network;
    return this.#node(
      ["network", this.#name(name), plugins.join(" + "), ...subnets.map(({ subnet }) => subnet)],
      [
        ...bridges.map((bridge) => this.#bridge(bridge, names)),
        ...(overlay === null ? [] : [this.#overlay(overlay)]),
        ...attachments.map((attachment) => this.#attachment(attachment)),
        ...this.#warnings(blocked.map(({ evidence, remedy }) => `${evidence}; remedy: ${remedy}`)),
        ...this.#warnings(differences),
      ],
    );
  }

  #overlay({ source, vni, mode, encrypted, devices, hosts }: OverlayView): TreeNode {
    const { red } = this.#colors;
    return this.#node(
      [
        "cluster",
        `VNI ${vni}`,
        ...(mode === "l2" ? ["one segment"] : []),
        ...(encrypted ? ["encrypted"] : []),
        devices.length === 0 ? this.#dim("no tunnel here") : `by ${devices.join(", ")}`,
        ...(source === "memory" ? [red("as known last")] : []),
      ],
      hosts.map(({ name, here, live, underlay, blocks, containers, missing }) =>
        this.#node([
          "host",
          this.#name(name),
          ...(here ? ["this one"] : underlay),
          ...(live === false ? [red("away")] : []),
          ...blocks.map(({ cidr, given }) => (given === null ? cidr : `${cidr} (${given} given out)`)),
          ...(containers === null ? [] : [`${containers} containers`]),
          ...(here || devices.length === 0
            ? []
            : [missing.length === 0 ? this.#dim("in the kernel") : red(`kernel lacks ${missing.length}`)]),
        ]),
      ),
    );
  }

  sandbox(sandbox: SandboxView): TreeNode {
    const { name, containerId, state, netns, links, processes, networks, differences } = sandbox;
    const { green, red } = this.#colors;
    return this.#node(
      [
        "sandbox",
        this.#name(name),
        containerId.slice(0, 12),
        state === "ready" ? green(state) : red(state),
        this.#dim(netns),
      ],
      [
        ...links.map((link) => {
          const network = networks.find(({ ifName }) => ifName === link.name)?.network;
          return this.#link(link, network === undefined ? [] : [`network ${network}`]);
        }),
        ...processes.map(({ pid, command }) => this.#node(["process", command, this.#dim(`pid ${pid}`)])),
        ...this.#warnings(differences),
      ],
    );
  }

  warning(text: string): TreeNode {
    return { text: this.#colors.yellow(`! ${text}`) };
  }

  #bridge({ name, link, ports }: BridgeView, names: ReadonlyMap<string, string>): TreeNode {
    if (link === null) return this.#node(["bridge", this.#name(name), this.#dim("not there yet")]);
    const shown = ports.map((port) => {
      const { attachment } = port;
      const owner =
        attachment === null
          ? this.#dim(isOverlayDeviceName(port.name) ? "tunnel to the other hosts" : "of another")
          : (names.get(attachment.containerId) ?? attachment.containerId.slice(0, 12));
      return this.#node([
        "port",
        port.name,
        this.#state(port.up ? "up" : "down"),
        owner,
        ...(attachment === null ? [] : [attachment.ifName]),
      ]);
    });
    return this.#node(["bridge", ...this.#describeLink(link)], shown);
  }

  #attachment(attachment: AttachmentView): TreeNode {
    const { sandbox, containerId, ifName, inside, outside, leases, elements, journal, cached, differences } =
      attachment;
    const records = journal.map(({ plugin, phase }) => `${plugin} ${phase}`);
    const shownRecords = [...records, ...(cached ? ["result cached"] : [])];
    return this.#node(
      ["attachment", ...(sandbox === null ? [] : [this.#name(sandbox)]), containerId.slice(0, 12), ifName],
      [
        ...(inside === null ? [] : [this.#link(inside, ["inside"])]),
        ...outside.map((link) =>
          this.#link(link, ["host", ...(link.master === "" ? [] : [`port of ${link.master}`])]),
        ),
        ...leases.map((ip) => this.#node(["lease", ip])),
        ...elements.map((text) => this.#node(["nftables", text])),
        ...(shownRecords.length === 0 ? [] : [this.#node(["journal", shownRecords.join(", ")])]),
        ...this.#warnings(differences),
      ],
    );
  }

  #link(link: LinkView, notes: readonly string[]): TreeNode {
    const routes = link.routes.map(({ destination, gateway, metric }) =>
      this.#node([
        "route",
        destination,
        ...(gateway === "" ? [] : [`via ${gateway}`]),
        ...(metric === 0 ? [] : [this.#dim(`metric ${metric}`)]),
      ]),
    );
    return this.#node(["link", ...this.#describeLink(link), ...notes.map((note) => this.#dim(note))], routes);
  }

  #describeLink({ name, kind, up, operState, mac, mtu, addresses }: LinkView): readonly string[] {
    const state = this.#state(up ? (operState === "unknown" ? "up" : operState) : "down");
    const isHardware = mac === "" || mac === "00:00:00:00:00:00";
    return [
      this.#name(name),
      ...(kind === "" || kind === "bridge" ? [] : [kind]),
      state,
      ...(isHardware ? [] : [this.#dim(mac)]),
      this.#dim(`mtu ${mtu}`),
      ...addresses.map((address) => this.#colors.cyan(address)),
    ];
  }

  #warnings(texts: readonly string[]): readonly TreeNode[] {
    return texts.map((text) => this.warning(text));
  }

  #state(text: string): string {
    return text === "up" ? this.#colors.green(text) : this.#colors.red(text);
  }

  #name(text: string): string {
    return this.#colors.bold(text);
  }

  #dim(text: string): string {
    return this.#colors.dim(text);
  }

  #node(words: readonly string[], children: readonly TreeNode[] = []): TreeNode {
    return { text: words.filter((word) => word !== "").join("  "), children };
  }
}
