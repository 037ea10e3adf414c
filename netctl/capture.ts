import { closeSync, openSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PcapngMerge } from "./capture/merge.ts";
import { PcapReader } from "./capture/pcap-reader.ts";
import { type CapturePoint, findPoints } from "./capture/points.ts";
import { Tcpdump } from "./capture/tcpdump.ts";
import type { Register } from "./command.ts";
import { parseDuration } from "./duration.ts";
import { describeError, ExitCode, Failure, UsageFailure } from "./failure.ts";
import { collectTopology } from "./topology/collect.ts";
import { suiteVersion } from "./version.ts";
import type { World } from "./world.ts";

interface CaptureFlags {
  readonly write?: string;
  readonly count?: string;
  readonly duration?: string;
  readonly bothEnds?: boolean;
}

export const registerCapture: Register = (parent, invoke) => {
  parent
    .command("capture")
    .summary("Capture packets at containers and networks")
    .description(
      "Capture packets where they are: in a container's namespace, at a network's bridge, at a link of the host, at several of them at once. Each line, and each packet of a file, says at which. Starts tcpdump in the right namespaces; ends with Ctrl-C.",
    )
    .argument(
      "<names>",
      "sandbox, container, pod, process id, namespace, network or link of the host; several with commas between",
    )
    .argument("[filter...]", "which packets, in the words of pcap-filter(7)")
    .option("-w, --write <file>", "write pcapng, for Wireshark; - for stdout")
    .option("-c, --count <packets>", "end after so many")
    .option("-d, --duration <time>", "end after this time: 30s, 5m")
    .option("--both-ends", "capture at the host's end of each container's interface as well")
    .addHelpText(
      "after",
      `
Examples:
  netctl capture web
  netctl capture alice,bob tcp port 80
  netctl capture alice --both-ends -w alice.pcapng -d 30s
  netctl capture web -w - | wireshark -k -i -`,
    )
    .passThroughOptions(false)
    .action((names: string, filter: readonly string[], flags: CaptureFlags, command) =>
      invoke(command, (world) => capture(names, filter, flags, world)),
    );
};

async function capture(
  names: string,
  filter: readonly string[],
  flags: CaptureFlags,
  world: World,
): Promise<ExitCode> {
  const limit = flags.count === undefined ? undefined : parseCount(flags.count);
  const durationMs = flags.duration === undefined ? undefined : parseDuration(flags.duration, "--duration");
  const wanted = names.split(",").filter((name) => name !== "");
  const points = findPoints(await collectTopology(world), wanted, flags.bothEnds === true, world);
  const run = { points, filter, limit, durationMs };
  const count =
    flags.write === undefined ? await printLines(run, world) : await writeFile(flags.write, run, world);
  world.io.stderr(`${count} ${count === 1 ? "packet" : "packets"}\n`);
  return ExitCode.Ok;
}

interface Run {
  readonly points: readonly CapturePoint[];
  readonly filter: readonly string[];
  readonly limit: number | undefined;
  readonly durationMs: number | undefined;
}

/** Lines of tcpdump, each with the point before it. @returns how many packets */
async function printLines({ points, filter, limit, durationMs }: Run, world: World): Promise<number> {
  const { io } = world;
  const width = Math.max(...points.map(({ name }) => name.length));
  let count = 0;
  const ending = new AbortController();
  const dumps = points.map((point) => {
    let rest = "";
    return new Tcpdump(point, { filter, output: "text" }, (piece) => {
      const lines = (rest + piece.toString("utf8")).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        // What belongs to the packet above is indented.
        if (!/^\s/.test(line)) {
          if (count === limit) return;
          count++;
        }
        io.stdout(`${io.colors.cyan(point.name.padEnd(width))}  ${line}\n`);
        if (count === limit) ending.abort();
      }
    });
  });
  await runAll(dumps, durationMs, ending.signal, world);
  return count;
}

/** How long a packet waits for an earlier one of another point. */
const holdMs = 500;

/** @returns how many packets */
async function writeFile(
  file: string,
  { points, filter, limit, durationMs }: Run,
  world: World,
): Promise<number> {
  const sink = openSink(file, world);
  const merge = new PcapngMerge((bytes) => sink.write(bytes), {
    application: `netctl ${suiteVersion}`,
    holdMs,
  });
  let count = 0;
  const ending = new AbortController();
  const dumps = points.map((point, number) => {
    const reader = new PcapReader();
    let isDescribed = false;
    return new Tcpdump(point, { filter, output: "pcap" }, (piece) => {
      const packets = reader.push(piece).slice(0, limit === undefined ? undefined : limit - count);
      const { header } = reader;
      if (!isDescribed && header !== undefined) {
        isDescribed = true;
        const { linkType, snapLength } = header;
        merge.describe(number, { name: point.name, description: point.netns, linkType, snapLength });
      }
      count += packets.length;
      merge.add(number, packets);
      if (count === limit) ending.abort();
    });
  });
  const timer = setInterval(() => merge.flush(BigInt(Date.now()) * 1_000_000n), holdMs / 2);
  try {
    await runAll(dumps, durationMs, ending.signal, world);
    merge.flush();
  } finally {
    clearInterval(timer);
    sink.close();
  }
  return count;
}

/** Until all have ended, time is up, enough was seen, or the operator asks to stop. */
async function runAll(
  dumps: readonly Tcpdump[],
  durationMs: number | undefined,
  enough: AbortSignal,
  world: World,
): Promise<void> {
  const interrupted = world.chain.signal;
  const stop = () => {
    for (const dump of dumps) dump.stop();
  };
  const clock = new AbortController();
  try {
    await Promise.all(dumps.map(({ ready }) => ready));
    const places = dumps.map(({ point }) => point.name).join(", ");
    world.io.stderr(`capturing at ${places}${durationMs === undefined ? "; Ctrl-C ends it" : ""}\n`);
    if (interrupted?.aborted === true || enough.aborted) stop();
    interrupted?.addEventListener("abort", stop);
    enough.addEventListener("abort", stop);
    if (durationMs !== undefined)
      sleep(durationMs, undefined, { signal: clock.signal }).then(stop, () => undefined);
    await Promise.all(dumps.map(({ ended }) => ended));
  } finally {
    clock.abort();
    stop();
    interrupted?.removeEventListener("abort", stop);
    await Promise.allSettled(dumps.map(({ ended }) => ended));
  }
}

interface Sink {
  write(bytes: Buffer): void;
  close(): void;
}

function openSink(file: string, { io }: World): Sink {
  if (file === "-") return { write: (bytes) => io.stdoutBytes(bytes), close: () => undefined };
  const path = resolve(io.workingDirectory, file);
  try {
    const fd = openSync(path, "w", 0o600);
    return {
      write: (bytes) => {
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      },
      close: () => closeSync(fd),
    };
  } catch (error) {
    throw new Failure(`Cannot write ${path}: ${describeError(error)}`, { cause: error });
  }
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1)
    throw new UsageFailure(`Cannot use --count ${text}: expected a number of packets, 1 or more`);
  return count;
}
