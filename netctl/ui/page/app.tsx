import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Findings } from "./findings.tsx";
import { useLive } from "./live.tsx";
import { MapView } from "./map.tsx";
import { Names } from "./names.tsx";
import { Networks } from "./networks.tsx";
import { Ports } from "./ports.tsx";
import { Traffic } from "./traffic.tsx";

const views = {
  map: "Map",
  traffic: "Traffic",
  networks: "Networks",
  ports: "Ports",
  names: "Names",
  findings: "Findings",
} as const;
type View = keyof typeof views;

function App() {
  const [view, setView] = useState<View>("map");
  const [search, setSearch] = useState("");
  const live = useLive();
  useEffect(() => {
    document.title = live.current === undefined ? "netctl" : `${live.current.host} · netctl`;
  }, [live.current?.host]);
  const problems = live.current?.problems ?? [];
  return (
    <>
      <header>
        <strong>netctl</strong>
        <span class="host">{live.current?.host ?? ""}</span>
        <nav>
          {(Object.keys(views) as View[]).map((each) => (
            <button
              type="button"
              key={each}
              class={each === view ? "chosen" : ""}
              onClick={() => setView(each)}
            >
              {views[each]}
            </button>
          ))}
        </nav>
        <input
          type="search"
          placeholder="container, address, network"
          value={search}
          onInput={({ currentTarget }) => setSearch(currentTarget.value)}
        />
        <span class={live.problem === "" ? "live" : "live broken"} title={live.problem}>
          {live.problem === "" ? "live" : live.problem}
        </span>
      </header>
      {problems.map((problem) => (
        <p class="problem" key={problem}>
          {problem}
        </p>
      ))}
      <main>
        {live.current === undefined ? (
          <p class="waiting">{live.problem === "" ? "looking at the host" : ""}</p>
        ) : view === "map" ? (
          <MapView state={live.current} history={live.history} search={search} />
        ) : view === "traffic" ? (
          <Traffic state={live.current} history={live.history} search={search} />
        ) : view === "networks" ? (
          <Networks state={live.current} search={search} />
        ) : view === "ports" ? (
          <Ports state={live.current} search={search} />
        ) : view === "names" ? (
          <Names state={live.current} search={search} />
        ) : (
          <Findings search={search} />
        )}
      </main>
    </>
  );
}

const root = document.getElementById("app");
if (root !== null) render(<App />, root);
