import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A network namespace of one test, made and looked at with iproute2, so that what is tested is not its own witness. */
export class TestNamespace {
  /** As `ip netns` lists it. */
  readonly name: string;
  readonly path: string;

  private constructor(name: string, path = `/run/netns/${name}`) {
    this.name = name;
    this.path = path;
  }

  /** One that somebody else has made, and removes. */
  static at(path: string): TestNamespace {
    return new TestNamespace(path, path);
  }

  /** A namespace with `lo` up. `hint` helps to recognise one that was left over. */
  static create(hint: string): TestNamespace {
    const namespace = new TestNamespace(`netctl-test-${hint}-${randomBytes(4).toString("hex")}`);
    execFileSync("ip", ["netns", "add", namespace.name]);
    namespace.run("ip link set lo up");
    return namespace;
  }

  /** Runs a shell script in the namespace and returns its stdout. @throws with its stderr */
  run(script: string): string {
    return execFileSync("nsenter", [`--net=${this.path}`, "sh", "-ec", script], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      maxBuffer: 64 * 1024 * 1024,
    });
  }

  /** The JSON that a command prints there, as `ip -j` and `nft -j` do; an empty list where it prints nothing. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller knows what it asked for
  json<T>(script: string): readonly T[] {
    return JSON.parse(this.run(script) || "[]") as readonly T[];
  }

  /** `run` without waiting in the event loop, for programs that run side by side. */
  async runAsync(script: string): Promise<string> {
    const { stdout } = await run("nsenter", [`--net=${this.path}`, "sh", "-ec", script], {
      encoding: "utf8",
    });
    return stdout;
  }

  /** Takes it away with everything in it. */
  remove(): void {
    execFileSync("ip", ["netns", "delete", this.name]);
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}
