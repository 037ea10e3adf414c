// One of the two hosts: a VM with a netd, and what is asked of it.
import { join } from "node:path";

/** Where this host has what is netctl's: not where the machine whose files the VM sees may have some. */
const base = "/run/pair";

/** How long something is waited for: half a minute of a usual machine. */
const patienceMs = 10 * 60_000;

export class Host {
  #shell;
  #environment;
  #root;

  /**
   * @param {number} number 1 or 2
   * @param {string} root of the repository
   * @param {string} out the folder that the VM has as /out
   */
  constructor(number, shell, root, out) {
    this.number = number;
    this.name = `h${number}`;
    this.out = out;
    this.address = `203.0.113.${number}`;
    this.#shell = shell;
    this.#root = root;
    this.#environment = {
      PATH: `${join(root, "dist/bin")}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      NETCTL_BIN_DIR: join(root, "dist/bin"),
      NETCTL_CONF_DIR: `${base}/conf`,
      NETCTL_STATE_DIR: `${base}/state`,
      NETCTL_RUN_DIR: `${base}/run`,
      NETCTL_LOG_FILE: `${base}/netd.log`,
      NETCTL_NETD: "never",
      // Nobody is there to be asked: a name that no container has is refused at once.
      NETCTL_RESOLV_CONF: "/dev/null",
      NO_COLOR: "1",
    };
  }

  /** What a command prints. @throws {Error} with its own words where it fails */
  async text(command) {
    const { status, stdout, stderr } = await this.#shell.run(command, this.#environment);
    if (status !== 0)
      throw new Error(`${this.name}: "${command}" ended with ${status}: ${stdout.trim()} ${stderr.trim()}`);
    return stdout.trim();
  }

  async json(command) {
    return JSON.parse((await this.text(command)) || "null");
  }

  /** Whether a command succeeds. */
  async succeeds(command) {
    return (await this.#shell.run(command, this.#environment)).status === 0;
  }

  /** What a command prints, also where it fails. */
  async said(command) {
    const { stdout, stderr } = await this.#shell.run(command, this.#environment);
    return `${stdout}${stderr}`.trim();
  }

  /** Starts a program that goes on; its process id. What it prints goes to `log`. */
  async start(command, log) {
    return Number(await this.text(`${command} >${log} 2>&1 </dev/null & echo $!`));
  }

  /** A command in the namespace of a sandbox, with the host's files. */
  inside(sandbox, command) {
    return `nsenter --net=${base}/run/netns/${sandbox} -- ${command}`;
  }

  async startNetd() {
    await this.text(`mkdir -p ${base}/run`);
    this.netd = await this.start(
      `exec ${process.execPath} ${join(this.#root, "dist/lib/netd.cjs")}`,
      `${base}/netd.out`,
    );
    await this.until("netd serves", async () => await this.succeeds("netctl dns ls"));
  }

  /** Ends a process of this host's, and waits for its end. */
  async end(pid, signal = "KILL") {
    await this.text(`kill -${signal} ${pid}; while [ -d /proc/${pid} ]; do sleep 0.2; done`);
  }

  async killNetd() {
    await this.end(this.netd);
  }

  /** Ends of what netd has written, for whoever wonders why a check has failed. */
  async lastWords() {
    return await this.said(`tail -n 25 ${base}/netd.log ${base}/netd.out; netctl cluster status`);
  }

  /** Asks again until it is so. @throws {Error} naming what was waited for */
  async until(what, isSo) {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      if (await isSo()) return;
      if (performance.now() > deadline) throw new Error(`${this.name}: waited in vain until ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}
