export interface Options {
  /** The folder under test; undefined with `compare`. */
  readonly bin: string | undefined;
  readonly only: readonly string[];
  readonly case: string | undefined;
  readonly json: string | undefined;
  readonly markdown: string | undefined;
  readonly compare: readonly string[];
  readonly fuzz: number;
  readonly seed: number;
  readonly jobs: number;
  readonly patience: number;
  readonly list: boolean;
  readonly help: boolean;
}

export const usage = `Usage: conformance --bin DIR [options]
       conformance --compare OURS.json OTHER.json… [--markdown FILE]

Drives the CNI executables of DIR by environment and stdin, in namespaces of its own. Needs root.

  --bin DIR        folder of executables under test
  --only TOPIC     run these topics only (repeat, or separate by commas)
  --case TEXT      run only cases whose title contains TEXT
  --json FILE      write every result
  --markdown FILE  write the table as Markdown; between the marks
                   <!-- conformance:begin --> and <!-- conformance:end --> where FILE has them
  --compare FILE…  print result files side by side as a Markdown table, run nothing
  --fuzz N         random configurations tried by the topic fuzz (60)
  --seed N         seed of these (1)
  --jobs N         cases at a time (3)
  --patience N     wait N times as long for any answer, on a slow machine (1)
  --list           print the cases, run nothing
`;

/** @throws {RangeError} naming the argument that makes no sense */
export function parseOptions(args: readonly string[]): Options {
  const texts = new Map<string, string>();
  const only: string[] = [];
  const compare: string[] = [];
  const flags = new Set<string>();
  for (let at = 0; at < args.length; at += 1) {
    const name = args[at] ?? "";
    const value = (): string => {
      const next = args[at + 1];
      if (next === undefined || next.startsWith("--")) throw new RangeError(`${name} needs a value`);
      at += 1;
      return next;
    };
    switch (name) {
      case "--only":
        only.push(...value().split(","));
        break;
      case "--compare":
        compare.push(value());
        while (args[at + 1] !== undefined && !args[at + 1]?.startsWith("--")) compare.push(value());
        break;
      case "--bin":
      case "--case":
      case "--json":
      case "--markdown":
      case "--fuzz":
      case "--seed":
      case "--jobs":
      case "--patience":
        texts.set(name, value());
        break;
      case "--list":
      case "--help":
        flags.add(name);
        break;
      default:
        throw new RangeError(`Unknown argument "${name}"`);
    }
  }
  const number = (name: string, fallback: number): number => {
    const given = texts.get(name);
    if (given === undefined) return fallback;
    if (!/^\d{1,9}$/.test(given)) throw new RangeError(`${name} must be a number: "${given}"`);
    return Number(given);
  };
  const options: Options = {
    bin: texts.get("--bin"),
    only,
    case: texts.get("--case"),
    json: texts.get("--json"),
    markdown: texts.get("--markdown"),
    compare,
    fuzz: number("--fuzz", 60),
    seed: number("--seed", 1),
    jobs: Math.max(1, number("--jobs", 3)),
    patience: Math.max(1, number("--patience", 1)),
    list: flags.has("--list"),
    help: flags.has("--help"),
  };
  if (!options.help && !options.list && options.compare.length === 0 && options.bin === undefined)
    throw new RangeError("--bin DIR is missing");
  return options;
}
