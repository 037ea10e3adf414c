/** Thrown by a case whose executable did not do what the case's source asks. The message is the row's reason. */
export class Failure extends Error {
  constructor(message: string) {
    super(message);
    this.name = "Failure";
  }
}

/** Thrown by a case that cannot say anything here. The message names what this machine lacks. */
export class Skip extends Error {
  constructor(message: string) {
    super(message);
    this.name = "Skip";
  }
}

/** Fails the case with `message` unless `condition` holds. */
export function expect(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Failure(message);
}

/** Fails the case unless both values are the same as JSON. `what` is the subject: "IP of eth0". */
export function expectEqual(actual: unknown, expected: unknown, what: string): void {
  const got = JSON.stringify(sorted(actual));
  const wanted = JSON.stringify(sorted(expected));
  if (got !== wanted) throw new Failure(`${what} is ${got ?? "missing"}, expected ${wanted ?? "none"}`);
}

/** Runs `probe` until it returns true, at most `timeoutMs`. Only for effects that the kernel itself delays. */
export async function eventually(probe: () => Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (await probe()) return true;
    if (Date.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}
