import { once } from "node:events";
import { createServer } from "node:http";
import type { Register } from "./command.ts";
import { describeError, ExitCode, Failure } from "./failure.ts";
import { parseListen } from "./listen.ts";
import { collectMetrics } from "./metrics/collect.ts";
import type { World } from "./world.ts";

interface MetricsFlags {
  readonly listen?: string;
}

export const registerMetrics: Register = (parent, invoke) => {
  parent
    .command("metrics")
    .summary("Print or serve what is counted, for Prometheus")
    .description(
      "Print in Prometheus' text format how long verbs take, how full pools and tables are, ports, names, repairs and the cluster's engine: docs/metrics.md. With --listen it serves that at /metrics until it is stopped.",
    )
    .option("-l, --listen <where>", "serve it: ADDRESS:PORT on the loopback, or unix:PATH")
    .addHelpText("after", "\nExamples:\n  netctl metrics\n  netctl metrics --listen 127.0.0.1:9618")
    .action((flags: MetricsFlags, command) => invoke(command, (world) => metrics(flags, world)));
};

async function metrics({ listen }: MetricsFlags, world: World): Promise<ExitCode> {
  if (listen === undefined) {
    world.io.stdout((await collectMetrics(world)).text);
    return ExitCode.Ok;
  }
  const where = parseListen(listen, world.io.workingDirectory);
  const server = createServer((request, response) => {
    const isAsked = request.method === "GET" && request.url?.split("?")[0] === "/metrics";
    if (!isAsked) {
      response.writeHead(404, { "content-type": "text/plain" }).end("GET /metrics\n");
      return;
    }
    collectMetrics(world).then(
      ({ text, contentType }) => response.writeHead(200, { "content-type": contentType }).end(text),
      (error: unknown) =>
        response.writeHead(500, { "content-type": "text/plain" }).end(`${describeError(error)}\n`),
    );
  });
  server.listen(where);
  try {
    await once(server, "listening");
  } catch (error) {
    throw new Failure(`Cannot listen on ${listen}: ${describeError(error)}`, { cause: error });
  }
  const address = server.address();
  world.io.stdout(
    typeof address === "object" && address !== null
      ? `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}/metrics\n`
      : `${listen}\n`,
  );
  const { signal } = world.chain;
  if (signal !== undefined && !signal.aborted) await once(signal, "abort");
  server.closeAllConnections();
  server.close();
  return ExitCode.Ok;
}
