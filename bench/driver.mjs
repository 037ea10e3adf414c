// Compiles bench/driver/ and speaks with it: one driver process is one host with one set of plugins (or none: the
// floor). It ends with its stdin, with SIGTERM and with this process, and takes all that it made with it.
import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

const changedMs = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Compiles `sources` to dist/lib/NAME with the machine's compiler, where that is older than they are; its path. */
function compile(name, folder, flags) {
  const program = join(root, "dist/lib", name);
  const files = readdirSync(folder)
    .map((file) => join(folder, file))
    .filter((file) => /\.[ch]$/.test(file));
  if (files.every((file) => changedMs(file) < changedMs(program))) return program;
  const compiler = process.env.CC || "cc";
  mkdirSync(join(root, "dist/lib"), { recursive: true });
  const aside = `${program}.${process.pid}`;
  const sources = files.filter((file) => file.endsWith(".c"));
  const { status, error, stderr } = spawnSync(
    compiler,
    [...flags, "-Wall", "-Wextra", "-o", aside, ...sources],
    { encoding: "utf8" },
  );
  if (error)
    throw new Error(
      `Cannot build the bench: no C compiler "${compiler}"; install gcc and libc6-dev, or set CC`,
    );
  if (status !== 0) throw new Error(`Cannot build dist/lib/${name}:\n${stderr}`);
  renameSync(aside, program);
  return program;
}

/** Paths of the driver and of the program that does nothing. */
export function buildDriver() {
  const freestanding =
    "-std=gnu11 -Os -ffreestanding -fno-builtin -nostdlib -static -fno-stack-protector -s".split(" ");
  return {
    driver: compile("bench-driver", join(root, "bench/driver"), ["-std=gnu11", "-O2", "-pthread"]),
    nothing: compile("bench-nothing", join(root, "bench"), [...freestanding, "-Wl,--build-id=none"]),
  };
}

/** What a runtime hands to each plugin of a list: name and version put in, runtime values by capability. */
export function planOf(conflist, runtimeValues = {}) {
  const lines = conflist.plugins.map((plugin) => {
    const config = { ...plugin, name: conflist.name, cniVersion: conflist.cniVersion };
    const wanted = Object.entries(runtimeValues).filter(([key]) => plugin.capabilities?.[key]);
    if (wanted.length > 0) config.runtimeConfig = Object.fromEntries(wanted);
    // A number that differs by container stands in the config as text: "{port}" becomes 2007, "{ten}3" 2003.
    const text = JSON.stringify(config).replaceAll(/"(\{port\}|\{ten\}\d)"/g, "$1");
    return `${plugin.type}\t${text}\n`;
  });
  return lines.join("");
}

/** A running driver. Commands are answered one after the other. */
export class Driver {
  #child;
  #lines;
  #directory;
  #name;

  /**
   * @param options name: for messages; directory: its own, made here; plugins: folder of executables, or floor: a kind;
   *   interfaceName; uplink: name of a link of the host to be made; environment: for the plugins, beside PATH and CNI_*
   */
  static async start({ name, directory, plugins, floor, interfaceName = "eth0", uplink, environment = {} }) {
    const driver = new Driver();
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    driver.#name = name;
    driver.#directory = directory;
    const args = ["-d", directory, "-l", join(directory, "stderr.log"), "-i", interfaceName];
    const programs = buildDriver();
    if (floor) args.push("-f", floor, "-n", programs.nothing);
    else args.push("-b", plugins);
    if (uplink) args.push("-u", uplink);
    for (const [key, value] of Object.entries(environment)) args.push("-e", `${key}=${value}`);
    const errors = openSync(join(directory, "driver.log"), "a");
    // In a session of its own: Ctrl-C reaches this process alone, which then ends the drivers in order.
    driver.#child = spawn(programs.driver, args, {
      stdio: ["pipe", "pipe", errors],
      detached: true,
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    closeSync(errors);
    driver.#child.stdin.on("error", () => {}); // it ended: the missing answer says so
    driver.ended = new Promise((resolve) => driver.#child.once("exit", resolve));
    driver.#lines = createInterface({ input: driver.#child.stdout })[Symbol.asyncIterator]();
    await driver.#answer("start");
    return driver;
  }

  async #answer(command) {
    const lines = [];
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done)
        throw new Error(
          `The driver of ${this.#name} ended during "${command}": ${this.#read("driver.log") || "no message"}`,
        );
      const line = JSON.parse(value);
      if (line.end) return lines;
      lines.push(line);
    }
  }

  #read(file) {
    return readFileSync(join(this.#directory, file), "utf8").trim();
  }

  /** Last lines that plugins wrote to stderr. */
  errorLog(count = 5) {
    try {
      return this.#read("stderr.log").split("\n").slice(-count).join("\n");
    } catch {
      return "";
    }
  }

  async ask(command) {
    this.#child.stdin.write(`${command}\n`);
    return await this.#answer(command);
  }

  async usePlan(plan) {
    const file = join(this.#directory, "plan");
    writeFileSync(file, plan);
    await this.ask(`plan ${file}`);
  }

  /** Ends the driver with all its namespaces and the services its plugins started. */
  async stop() {
    this.#child.stdin.end("quit\n");
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const late = setTimeout(() => this.#child.kill("SIGTERM"), 10_000);
      await this.ended;
      clearTimeout(late);
    }
  }

  /** The same without waiting for the block that is running. */
  async cancel() {
    this.#child.kill("SIGTERM");
    await this.ended;
  }
}
