import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { libDirectory } from "#native/lib-directory.ts";
import type { Register } from "./command.ts";
import { describeError, ExitCode, Failure } from "./failure.ts";
import { parseListen } from "./listen.ts";
import { createUiServer, type UiFiles } from "./ui/server.ts";
import { UiState } from "./ui/state.ts";
import type { World } from "./world.ts";

interface UiFlags {
  readonly listen: string;
}

export const registerUi: Register = (parent, invoke) => {
  parent
    .command("ui")
    .summary("Serve a web page that shows the networks live")
    .description(
      "Serve a web page that shows the live topology, traffic, ports, names and the doctor's findings, for as long as the command runs. It listens on this machine's loopback or on a unix socket alone, changes nothing, and asks for a token that is in the printed address.",
    )
    .option("-l, --listen <where>", "ADDRESS:PORT on the loopback, or unix:PATH", "127.0.0.1:7654")
    .addHelpText(
      "after",
      `
Examples:
  netctl ui
  netctl ui --listen 127.0.0.1:0             any free port
  netctl ui --listen unix:/run/netctl/ui     then: ssh -L 7654:/run/netctl/ui HOST`,
    )
    .action((flags: UiFlags, command) => invoke(command, (world) => ui(flags, world)));
};

async function ui({ listen }: UiFlags, world: World): Promise<ExitCode> {
  const where = parseListen(listen, world.io.workingDirectory);
  const token = randomBytes(16).toString("hex");
  const server = createUiServer({ token, files: readFiles(), state: new UiState(world) });
  server.listen(where);
  try {
    await once(server, "listening");
  } catch (error) {
    throw new Failure(`Cannot listen on ${listen}: ${describeError(error)}`, { cause: error });
  }
  const { path } = where;
  if (path !== undefined) chmodSync(path, 0o600);
  const address = server.address();
  const at =
    typeof address === "object" && address !== null ? `${hostText(where.host ?? "")}:${address.port}` : "";
  world.io.stdout(
    path === undefined ? `http://${at}/#${token}\n` : `${path}, and behind its address: /#${token}\n`,
  );
  await untilStopped(world.chain.signal);
  server.closeAllConnections();
  server.close();
  if (path !== undefined) rmSync(path, { force: true });
  return ExitCode.Ok;
}

function readFiles(): UiFiles {
  const read = (name: string) => readFileSync(join(libDirectory(), "ui", name), "utf8");
  try {
    return { page: read("index.html"), script: read("app.js"), style: read("app.css") };
  } catch (error) {
    throw new Failure(`Cannot serve the page: ${describeError(error)}; npm run build makes it`, {
      cause: error,
    });
  }
}

const hostText = (host: string) => (host.includes(":") ? `[${host}]` : host);

async function untilStopped(signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined || signal.aborted) return;
  await once(signal, "abort");
}
