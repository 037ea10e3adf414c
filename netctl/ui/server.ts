import { timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { describeError } from "#netctl/failure.ts";
import type { UiState } from "./state.ts";

export interface UiFiles {
  readonly page: string;
  readonly script: string;
  readonly style: string;
}

export interface UiOptions {
  /** Whoever has not got it is told nothing but the empty page. */
  readonly token: string;
  readonly files: UiFiles;
  readonly state: UiState;
}

/**
 * The web page and what it asks for. Reads alone: there is no request that changes anything. A page of another site can
 * neither ask (no token, no CORS) nor pose as this one (the Host header has to be an address of this machine's loopback).
 */
export function createUiServer(options: UiOptions): Server {
  return createServer((request, response) => {
    answer(request, response, options).catch((error: unknown) => {
      if (!response.headersSent) send(response, 500, "text/plain", `${describeError(error)}\n`);
      else response.destroy();
    });
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, options: UiOptions): Promise<void> {
  const { token, files, state } = options;
  if (!isOwnHost(request)) return send(response, 403, "text/plain", "not a name of this server\n");
  if (request.method !== "GET") return send(response, 405, "text/plain", "GET alone\n");
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  if (pathname === "/") return send(response, 200, "text/html", files.page);
  if (pathname === "/app.js") return send(response, 200, "text/javascript", files.script);
  if (pathname === "/app.css") return send(response, 200, "text/css", files.style);
  const answers: Readonly<Record<string, () => Promise<unknown>>> = {
    "/api/state": state.state,
    "/api/names": state.names,
    "/api/findings": state.findings,
  };
  const read = answers[pathname];
  if (read === undefined) return send(response, 404, "text/plain", "no such page\n");
  if (!hasToken(request, token)) return send(response, 401, "text/plain", "the token is missing or wrong\n");
  send(response, 200, "application/json", JSON.stringify(await read()));
}

/** Over a unix socket the header says nothing. */
function isOwnHost({ headers, socket }: IncomingMessage): boolean {
  if (socket.remoteAddress === undefined) return true;
  const name = (headers.host ?? "").replace(/:\d+$/, "");
  return name === "localhost" || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name);
}

function hasToken({ headers }: IncomingMessage, token: string): boolean {
  const given = Buffer.from(headers.authorization ?? "");
  const wanted = Buffer.from(`Bearer ${token}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    "content-type": `${type}; charset=utf-8`,
    "cache-control": "no-store",
    "content-security-policy":
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
  });
  response.end(body);
}
