import type { Attachment } from "./attachment.ts";
import { eventually, expect } from "./failure.ts";
import { changes } from "./footprint.ts";

/** For whoever puts back, times the lab's patience. */
const mendingMs = 10_000;

export interface LossOptions {
  /** What the error must name. */
  readonly names?: RegExp | readonly RegExp[];
  /** That what was taken away does its work: asked before, and again where it is said to be back. @throws {Failure} */
  readonly works?: () => Promise<void>;
}

/**
 * Takes away what the host has for an attachment. CHECK has to say so; or, as a service that belongs to the plugins may
 * have been faster, to be silent about a host on which all is there again, to the last rule, and works. Whichever it is,
 * the host comes to be as the loss has left it or as it was before: CHECK itself makes nothing.
 *
 * So a CHECK that does not look is found where the plugins run without their service.
 * @param take of the host's own. Awaited
 * @throws {Failure}
 */
export async function expectLossSeen(
  attachment: Attachment,
  take: () => Promise<unknown>,
  { names = [], works = async () => undefined }: LossOptions = {},
): Promise<void> {
  const { lab } = attachment;
  const patienceMs = mendingMs * lab.bench.patience;
  await works();
  (await attachment.check()).expectSilence();
  const whole = await lab.footprint();
  await take();
  const damaged = await lab.footprint();
  const reply = await attachment.check();

  let sinceWhole: readonly string[] = [];
  let sinceDamaged: readonly string[] = [];
  const compare = async () => {
    const now = await lab.footprint();
    sinceWhole = changes(whole, now);
    sinceDamaged = changes(damaged, now);
  };
  if (reply.succeeded) {
    reply.expectSilence();
    const isWhole = async () => {
      await compare();
      return sinceWhole.length === 0;
    };
    const isBack = await eventually(isWhole, patienceMs);
    expect(isBack, `${reply.what} succeeded, expected an error: ${sinceWhole.join("; ")}`);
    await works();
    return;
  }
  reply.expectError({ names });
  const isEither = async () => {
    await compare();
    return sinceWhole.length === 0 || sinceDamaged.length === 0;
  };
  expect(await eventually(isEither, patienceMs), `the host was changed: ${sinceDamaged.join("; ")}`);
}
