import { readFileSync, rmSync } from "node:fs";
import { expect } from "#conformance/failure.ts";
import type { CallOptions, Container, World } from "./world.ts";

export type AttachmentVerb = "ADD" | "DEL";

/** Calls a verb that must succeed, or fail as `options` ask, and returns the points that it passed, in order. */
export async function tracePoints(
  world: World,
  verb: AttachmentVerb,
  container: Container,
  options: CallOptions = {},
): Promise<readonly string[]> {
  const trace = `${world.directory}/trace`;
  rmSync(trace, { force: true });
  if (verb === "ADD") await world.prepare(container);
  const reply = await world.call(verb, container, { ...options, trace });
  if (options.failAt !== undefined) reply.expectError();
  else if (verb === "ADD") world.expectAttached(container, reply);
  else {
    world.forget(container);
    reply.expectSilence();
    await world.detachRest(container);
  }
  const points = readPoints(trace);
  expect(points.length > 0, `${verb} passed no point: is this the fault build?`);
  return points;
}

export function readPoints(trace: string): readonly string[] {
  try {
    return readFileSync(trace, "utf8").trim().split("\n");
  } catch {
    return [];
  }
}
