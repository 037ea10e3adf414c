import { spawn } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { runTool } from "#conformance/command.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { followUps } from "./follow-up.ts";
import { attempt } from "./killed.ts";
import { pause, type Scenario, type ScenarioBench } from "./kit.ts";
import { World } from "./world.ts";

/** `spoil` gets a world in which no netd runs. */
interface Spoiling {
  readonly fault: string;
  readonly spoil: (world: World) => Promise<(() => Promise<void>) | undefined>;
  /** netd may not be able to take the place either. */
  readonly mayBeFinal?: true;
}

const nobody = 65534;

const spoilings: readonly Spoiling[] = [
  { fault: "missing", spoil: async () => undefined },
  {
    fault: "missing, while netd runs",
    async spoil(world) {
      const netd = await world.startNetd();
      rmSync(socketPath(world));
      return () => netd.kill();
    },
  },
  {
    fault: "left by a netd that was killed",
    async spoil(world) {
      await (await world.startNetd()).kill();
      return undefined;
    },
  },
  {
    fault: "a directory",
    async spoil(world) {
      mkdirSync(socketPath(world));
      return undefined;
    },
  },
  {
    fault: "a directory with something in it, which stays",
    async spoil(world) {
      mkdirSync(`${socketPath(world)}/precious`, { recursive: true });
      return undefined;
    },
    mayBeFinal: true,
  },
  {
    fault: "a file",
    async spoil(world) {
      writeFileSync(socketPath(world), "x");
      return undefined;
    },
  },
  {
    fault: "a fifo",
    async spoil(world) {
      await runTool("mkfifo", [socketPath(world)]);
      return undefined;
    },
  },
  {
    fault: "a link to a file, which stays",
    async spoil(world) {
      const file = `${world.directory}/precious`;
      writeFileSync(file, "precious");
      symlinkSync(file, socketPath(world));
      return () => {
        expectEqual(readFileSync(file, "utf8"), "precious", "the file that the link led to");
        return Promise.resolve();
      };
    },
  },
  {
    fault: "somebody else's, who must not be told anything",
    async spoil(world) {
      const [heard, stop] = await startStranger(world);
      return async () => {
        await stop();
        expectEqual(heard(), "", "what a stranger's socket was sent");
      };
    },
  },
  {
    fault: "of a service that never answers",
    spoil: (world) => listening(world, () => {}),
  },
  {
    fault: "of a service that hangs up at once",
    spoil: (world) => listening(world, (socket) => socket.destroy()),
  },
  {
    fault: "of a service that refuses",
    spoil: (world) => listening(world, (socket) => socket.end("N")),
  },
  {
    fault: "of a service that accepts and dies",
    spoil: (world) => listening(world, (socket) => socket.once("data", () => socket.end("A"))),
  },
  {
    fault: "of a service that dies in the middle of its answer",
    spoil: (world) =>
      listening(world, (socket) => socket.once("data", () => socket.end(`A${"\0".repeat(4)}\x20\0\0\0ab`))),
  },
  {
    fault: "beside a lock that is a directory",
    async spoil(world) {
      mkdirSync(socketPath(world).replace(/sock$/, "lock"));
      return undefined;
    },
    mayBeFinal: true,
  },
];

export const socketFileScenarios: readonly Scenario[] = [
  { name: "the socket is not as it should be", run: spoilEach },
  { name: "netd is started by the first call, once", run: startOnDemand },
];

/** Calls get on without netd; and netd, when it is started, takes the place. */
async function spoilEach(bench: ScenarioBench): Promise<void> {
  for (const [index, { fault, spoil, mayBeFinal }] of spoilings.entries()) {
    const world = await World.open(bench.kit, `${bench.label}-${index}`, { mode: "netd" });
    const reason = await attempt(async () => {
      await world.netd?.kill();
      rmSync(socketPath(world), { force: true });
      for (const name of readdirSync(world.runDirectory))
        if (name.endsWith(".lock")) rmSync(`${world.runDirectory}/${name}`);
      const repair = await spoil(world);
      const container = await world.container();
      await followUps.ADD(world, container, {});
      await repair?.();
      const netd = world.spawnNetd();
      if (mayBeFinal === true) await Promise.race([netd.ended(), pause(3000)]);
      else {
        await netd.ready();
        const trace = `${world.directory}/trace`;
        await world.attach(container, { trace });
        expect(readFileSync(trace, "utf8").startsWith("netd/"), "the new netd was not asked");
        expect(netd.isRunning, "netd has ended");
      }
      await world.finish();
    });
    await world.close();
    bench.note(fault, "ADD", reason);
  }
}

/** Of twenty first calls at once one starts netd; all succeed, and later ones are answered by it. */
async function startOnDemand(bench: ScenarioBench): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd" });
  const environment = { NETCTL_NETD: "" };
  try {
    await world.netd?.kill();
    world.netd = undefined;
    rmSync(world.runDirectory, { recursive: true });
    const containers = await Promise.all(Array.from({ length: 20 }, () => world.container()));
    const reason = await attempt(async () => {
      await Promise.all(containers.map((container) => world.attach(container, { environment })));
      const until = Date.now() + 20_000;
      while (!isSocket(socketPath(world))) {
        expect(Date.now() < until, "nobody has started netd");
        await pause(10);
      }
      expectEqual(netdsOf(world).length, 1, "the number of netds");
      const [first] = containers;
      expect(first !== undefined, "there is a container");
      const trace = `${world.directory}/trace`;
      await world.detach(first, { environment: { ...environment, NETCTL_FAULT_TRACE: trace } });
      expect(readFileSync(trace, "utf8").startsWith("netd/"), "netd was not asked");
      await world.expectConsistent(first);
    });
    bench.note("20 first calls", "", reason);
    if (reason === "") await world.finish();
  } finally {
    for (const processId of netdsOf(world)) process.kill(processId, "SIGKILL");
    await world.close();
  }
}

/** `netd-INODE.sock`: docs/netd.md */
function socketPath(world: World): string {
  return `${world.runDirectory}/netd-${statSync(world.host.path).ino}.sock`;
}

function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
}

/** Those that were started with the world's directories. */
function netdsOf(world: World): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const isNetd = readFileSync(`/proc/${name}/cmdline`, "utf8").includes("netd.cjs");
        return isNetd && readFileSync(`/proc/${name}/environ`, "utf8").includes(`=${world.runDirectory}\0`);
      } catch {
        // It has ended.
        return false;
      }
    })
    .map(Number);
}

/** A service of user nobody, in a directory where everybody may write. */
async function startStranger(
  world: World,
): Promise<readonly [heard: () => string, stop: () => Promise<void>]> {
  const program = `
    require("node:net").createServer((socket) => socket.on("data", (data) => process.stdout.write(data)))
      .listen(process.argv[1], () => process.stderr.write("listens"));`;
  chmodSync(world.runDirectory, 0o777);
  chmodSync(world.directory, 0o755);
  const child = spawn(process.execPath, ["-e", program, socketPath(world)], {
    uid: nobody,
    gid: nobody,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let heard = "";
  child.stdout.on("data", (chunk: Buffer) => (heard += chunk.toString("latin1")));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await Promise.race([new Promise((resolve) => child.stderr.once("data", resolve)), ended]);
  expect(isSocket(socketPath(world)), "the stranger could not listen");
  return [
    () => heard,
    async () => {
      child.kill("SIGKILL");
      await ended;
      chmodSync(world.runDirectory, 0o700);
    },
  ];
}

async function listening(world: World, onConnection: (socket: Socket) => void): Promise<() => Promise<void>> {
  const server = await listen(world, onConnection);
  return () => close(server);
}

async function listen(world: World, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(socketPath(world), resolve));
  return server;
}

async function close(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    // Connections that were never answered do not end by themselves.
    server.unref();
    setTimeout(resolve, 200);
  });
}
