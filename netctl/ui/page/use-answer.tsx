import { useEffect, useState } from "preact/hooks";
import { ask } from "./ask.tsx";

/** Asks now, and again every so often. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller knows what is at that path
export function useAnswer<Answer>(
  path: string,
  intervalMs: number,
): { readonly answer?: Answer; readonly problem: string } {
  const [state, setState] = useState<{ readonly answer?: Answer; readonly problem: string }>({ problem: "" });
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      try {
        const answer = await ask<Answer>(path);
        if (!isOver) setState({ answer, problem: "" });
      } catch (error) {
        if (!isOver) setState({ problem: error instanceof Error ? error.message : String(error) });
      }
      if (!isOver) timer = setTimeout(() => void look(), intervalMs);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [path, intervalMs]);
  return state;
}
