import type { ListenOptions } from "node:net";
import { resolve } from "node:path";
import { UsageFailure } from "./failure.ts";

/**
 * Where to serve something: ADDRESS:PORT, or unix:PATH.
 * @throws {UsageFailure} for anything that others than this machine could reach
 */
export function parseListen(text: string, workingDirectory: string): ListenOptions {
  if (text.startsWith("unix:") && text.length > 5) return { path: resolve(workingDirectory, text.slice(5)) };
  const [, bracketed, plain, port = ""] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? "";
  if (port === "" || Number(port) > 65_535)
    throw new UsageFailure(`Cannot use --listen ${text}: expected 127.0.0.1:PORT, [::1]:PORT or unix:PATH`);
  if (host !== "localhost" && host !== "::1" && !/^127(\.\d{1,3}){3}$/.test(host))
    throw new UsageFailure(
      `Cannot use --listen ${text}: ${host} is not this machine's loopback; reach it from elsewhere by ssh -L`,
    );
  return { host: host === "localhost" ? "127.0.0.1" : host, port: Number(port) };
}
