import type { NamespaceView, TopologyLink } from "#netctl/topology/model.ts";
import type { StateAnswer } from "#netctl/ui/answers.ts";
import { rateText } from "./format.tsx";
import type { History } from "./live.tsx";
import { Sparkline } from "./sparkline.tsx";

/** Everything that is known of one box. */
export function Details({
  state,
  history,
  chosen,
  onClose,
}: {
  state: StateAnswer;
  history: History;
  chosen: string | undefined;
  onClose: () => void;
}) {
  if (chosen === undefined) return null;
  const { namespaces } = state.topology;
  const [host] = namespaces;
  const link = chosen.startsWith("host ")
    ? host?.links.find(({ name }) => `host ${name}` === chosen)
    : undefined;
  const namespace = link === undefined ? namespaces.find(({ id }) => id === chosen) : undefined;
  if (link === undefined && namespace === undefined) return null;
  return (
    <aside>
      <button type="button" class="close" aria-label="close" onClick={onClose}>
        ×
      </button>
      {namespace === undefined ? null : <Namespace namespace={namespace} state={state} history={history} />}
      {link === undefined ? null : (
        <>
          <h2>{link.network ?? link.name}</h2>
          <Link link={link} owner="host" state={state} history={history} />
          <Warnings texts={state.differences[link.name] ?? []} />
        </>
      )}
    </aside>
  );
}

function Namespace({
  namespace,
  state,
  history,
}: {
  namespace: NamespaceView;
  state: StateAnswer;
  history: History;
}) {
  const { name, kind, containers, containerIds, paths, links, ports, processes, processCount } = namespace;
  return (
    <>
      <h2>{name}</h2>
      <p class="faint">
        {kind}
        {containers.map((each) => ` · ${each.runtime} ${each.name} ${each.id.slice(0, 12)}`)}
      </p>
      <Warnings texts={containerIds.flatMap((id) => state.differences[id] ?? [])} />
      {links
        .filter(({ isLoopback }) => !isLoopback)
        .map((link) => (
          <Link key={link.ifindex} link={link} owner={name} state={state} history={history} />
        ))}
      {ports.length === 0 ? null : <h3>Published ports</h3>}
      {ports.map((port) => (
        <p key={port}>{port}</p>
      ))}
      {processes.length === 0 ? null : <h3>Processes</h3>}
      {processes.map(({ pid, command }) => (
        <p key={pid}>
          {command} <span class="faint">{pid}</span>
        </p>
      ))}
      {processCount > processes.length ? (
        <p class="faint">and {processCount - processes.length} more</p>
      ) : null}
      <h3>Look closer</h3>
      <pre>
        netctl inspect {name}
        {"\n"}netctl capture {name}
        {paths[0] === undefined ? "" : `\nnsenter --net=${paths[0]} ip address`}
      </pre>
    </>
  );
}

function Link({
  link,
  owner,
  state,
  history,
}: {
  link: TopologyLink;
  owner: string;
  state: StateAnswer;
  history: History;
}) {
  const rates = history.get(`${owner} ${link.name}`) ?? [];
  const now = rates.at(-1);
  const nameOf = (id: string) => state.topology.namespaces.find((each) => each.id === id)?.name ?? id;
  const lost = (link.counters?.rxDropped ?? 0) + (link.counters?.txDropped ?? 0);
  return (
    <section>
      <h3>
        {link.name} <span class="faint">{link.kind}</span>{" "}
        {link.up ? null : <span class="warning">down</span>}
      </h3>
      <dl>
        {link.addresses.map((address) => (
          <Row key={address} name="address" value={address} />
        ))}
        {link.network === null ? null : (
          <Row name="network" value={`${link.network}${link.isInternal ? ", internal" : ""}`} />
        )}
        {link.mac === "" ? null : <Row name="MAC" value={link.mac} />}
        <Row name="MTU" value={String(link.mtu)} />
        {link.master === "" ? null : <Row name="port of" value={link.master} />}
        {link.below === null ? null : (
          <Row
            name={link.below.relation === "peer" ? "other end" : "on"}
            value={`${nameOf(link.below.namespace)} ${link.below.link}`}
          />
        )}
        {link.routes.map(({ destination, gateway }) => (
          <Row
            key={destination}
            name="route"
            value={gateway === "" ? destination : `${destination} via ${gateway}`}
          />
        ))}
        {now === undefined ? null : (
          <Row name="now" value={`${rateText(now.rxBytes)} in, ${rateText(now.txBytes)} out`} />
        )}
        {lost === 0 ? null : <Row name="dropped" value={`${lost} packets since it was made`} />}
      </dl>
      <Sparkline values={rates.map(({ rxBytes, txBytes }) => rxBytes + txBytes)} />
    </section>
  );
}

function Row({ name, value }: { name: string; value: string }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </>
  );
}

function Warnings({ texts }: { texts: readonly string[] }) {
  return (
    <>
      {texts.map((text) => (
        <p class="warning" key={text}>
          ! {text}
        </p>
      ))}
    </>
  );
}
