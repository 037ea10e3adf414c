import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { Failure } from "#conformance/failure.ts";
import type { Container, Lab } from "#conformance/lab.ts";
import { show } from "#conformance/printed-result.ts";
import { pick, randomConfig, randomFrom, randomStdin } from "#conformance/random-config.ts";
import { readLinks } from "#conformance/witness.ts";

const source = "SPEC 1.1.0, Error; ADD; DEL";

/** Runs `attempt` for each number up to the count asked for; a failure names how to repeat it. */
async function times(
  lab: Lab,
  salt: number,
  attempt: (random: () => number) => Promise<unknown>,
): Promise<void> {
  const { count, seed } = lab.bench.fuzz;
  for (let at = 0; at < count; at += 1) {
    try {
      await attempt(randomFrom(seed * 1_000_003 + salt * 100_000 + at));
    } catch (error) {
      if (error instanceof Failure) throw new Failure(`attempt ${at} of --seed ${seed}: ${error.message}`);
      throw error;
    }
  }
}

async function vethNames(lab: Lab, container: Container): Promise<string> {
  const links = [...(await readLinks(lab.host)), ...(await readLinks(container.namespace))];
  return links
    .filter((link) => link.kind !== "bridge" && link.name !== "lo")
    .map((link) => link.name)
    .join(", ");
}

async function attempt(lab: Lab, config: JsonObject, container: Container): Promise<void> {
  const added = await lab.call("ADD", config, { container });
  if (added.succeeded) added.expectJson();
  else added.expectError();
  const deleted = await lab.call("DEL", config, { container });
  if (deleted.succeeded) deleted.expectSilence();
  else deleted.expectError();
  if (added.succeeded && !deleted.succeeded)
    throw new Failure(`ADD succeeds, DEL does not: ${deleted.stdout} for ${show(config)}`);
}

export const fuzzCases: readonly Case[] = [
  {
    title: "random configurations are answered by one JSON object, and what ADD takes DEL takes",
    source,
    async run(lab) {
      const container = await lab.container();
      await times(lab, 1, (random) => attempt(lab, randomConfig(random, lab), container));
    },
  },
  {
    title: "random configurations leave no link, whether ADD succeeds or not",
    source: `${source}; cni#797`,
    reference: "the veth pair stays after a failed ADD",
    async run(lab) {
      const container = await lab.container();
      await times(lab, 2, async (random) => {
        const config = randomConfig(random, lab);
        const added = await lab.call("ADD", config, { container });
        if (added.succeeded) await lab.call("DEL", config, { container });
        const left = await vethNames(lab, container);
        if (left !== "")
          throw new Failure(
            `${left} stays after ${added.succeeded ? "DEL" : "the failed ADD"} of ${show(config)}`,
          );
      });
    },
  },
  {
    title: "requests that are nearly JSON are answered by one JSON object",
    source,
    async run(lab) {
      const container = await lab.container();
      await times(lab, 3, async (random) => {
        const stdin = randomStdin(random, lab);
        const plugin = pick(random, ["bridge", "host-local"]);
        const verb = pick(random, ["ADD", "CHECK", "DEL", "GC", "STATUS"]);
        const reply = await lab.call(verb, stdin, { plugin, container });
        if (!reply.succeeded) reply.expectError();
        else if (verb === "ADD") reply.expectJson();
        if (verb === "ADD") {
          // The text may have been sound after all.
          const again = await lab.call("DEL", stdin, { plugin, container });
          if (reply.succeeded) again.expectSilence();
        }
      });
    },
  },
];
