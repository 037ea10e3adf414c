import { useEffect, useRef, useState } from "preact/hooks";
import { type Look, type Rate, ratesBetween } from "#netctl/top/rates.ts";
import type { StateAnswer } from "#netctl/ui/answers.ts";
import { ask } from "./ask.tsx";

const intervalMs = 2000;
/** Two minutes. */
const kept = 60;

/** Rates of one interface, the newest last. */
export type History = ReadonlyMap<string, readonly Rate[]>;

export interface Live {
  readonly current: StateAnswer | undefined;
  readonly history: History;
  /** Why nothing new comes; empty while it does. */
  readonly problem: string;
}

/** Asks again and again, as long as the page is looked at. */
export function useLive(): Live {
  const [live, setLive] = useState<Live>({ current: undefined, history: new Map(), problem: "" });
  const before = useRef<Look | undefined>(undefined);
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      try {
        if (!document.hidden) {
          const current = await ask<StateAnswer>("/api/state");
          const now = lookOf(current);
          const rates = before.current === undefined ? [] : ratesBetween(before.current, now, () => true);
          before.current = now;
          setLive(({ history }) => ({ current, history: extend(history, rates), problem: "" }));
        }
      } catch (error) {
        setLive((earlier) => ({
          ...earlier,
          problem: error instanceof Error ? error.message : String(error),
        }));
      }
      if (!isOver) timer = setTimeout(() => void look(), intervalMs);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, []);
  return live;
}

function lookOf({ timeMs, topology, connections }: StateAnswer): Look {
  return {
    atMs: timeMs,
    topology,
    connections: connections === null ? undefined : new Map(Object.entries(connections)),
  };
}

/** By namespace's name and link. */
export const rateKey = ({ name, link }: Pick<Rate, "name" | "link">): string => `${name} ${link}`;

function extend(history: History, rates: readonly Rate[]): History {
  if (rates.length === 0) return history;
  return new Map(
    rates.map((rate) => [rateKey(rate), [...(history.get(rateKey(rate)) ?? []), rate].slice(-kept)] as const),
  );
}
