import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bench-test-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A plugin named `loopback` whose body is a shell script. */
function plugin(name: string, body: string): string {
  const bin = mkdtempSync(join(folder, name));
  writeFileSync(join(bin, "loopback"), `#!/bin/sh\n${body}\n`);
  chmodSync(join(bin, "loopback"), 0o755);
  return bin;
}

interface Summary {
  readonly median: number;
  readonly count: number;
  readonly failed: number;
}
interface Row {
  readonly verb: string;
  readonly ours?: Summary;
  readonly peer?: Summary;
}

async function bench(
  ours: string,
  peer: string,
): Promise<{ code: number; text: string; rows: readonly Row[] }> {
  const json = join(folder, "figures.json");
  const options = ["--case", "loopback", "--n", "4", "--subjects", "ours,peer", "--json", json];
  return await new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ["bench/main.mjs", ...options, "--bin", ours, "--peer", peer],
      (error, text) => {
        if (!existsSync(json)) return reject(error ?? new Error(text));
        resolve({
          code: error ? Number(error.code) : 0,
          text,
          rows: JSON.parse(readFileSync(json, "utf8")).rows,
        });
      },
    );
  });
}

const answer = `echo '{"cniVersion":"1.0.0"}'`;

test("a failed call is reported, and its time counts for nothing", async () => {
  const good = plugin("good", `cat >/dev/null\n${answer}`);
  // The warm-up makes three pairs; of the four measured, this one's second DEL fails, slowly.
  const bad = plugin(
    "bad",
    `cat >/dev/null
[ $CNI_COMMAND = DEL ] && echo >> ${folder}/deletions
[ $CNI_COMMAND = DEL ] && [ $(wc -l < ${folder}/deletions) = 5 ] && { sleep 0.5; echo '{"code":999,"msg":"no \\"luck\\""}'; exit 1; }
${answer}`,
  );
  const { code, text, rows } = await bench(bad, good);
  expect(code).toBe(1);
  expect(text).toContain(
    '1 calls failed; the first: DEL: loopback: exit code 1: {"code":999,"msg":"no "luck""}'.replaceAll(
      '"luck"',
      '\\"luck\\"',
    ),
  );
  const row = rows.find(({ verb }) => verb === "DEL");
  expect(row?.ours).toMatchObject({ count: 3, failed: 1 });
  expect(row?.ours?.median).toBeLessThan(500);
  expect(row?.peer).toMatchObject({ count: 4, failed: 0 });
});

test("plugins get a namespace of their own, config on stdin and a clean environment; nothing stays", async () => {
  const seen = join(folder, "seen");
  const spy = plugin(
    "spy",
    `{ echo "stdin $(cat)"; env; readlink /proc/self/ns/net; [ -e $CNI_NETNS ] && echo reachable; } > ${seen}
[ -e ${folder}/service ] || { setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $! > ${folder}/service; }
${answer}`,
  );
  const { code, text } = await bench(spy, plugin("good", answer));
  expect(code).toBe(0);
  const lines = readFileSync(seen, "utf8").split("\n");
  const stdin = lines.find((line) => line.startsWith("stdin "))?.slice("stdin ".length) ?? "";
  expect(JSON.parse(stdin)).toEqual({
    type: "loopback",
    name: "bench-loopback",
    cniVersion: "1.0.0",
    prevResult: { cniVersion: "1.0.0" },
  });
  expect(lines).toContain("CNI_COMMAND=DEL");
  expect(lines).toContain("CNI_IFNAME=lo");
  expect(lines).toContain("reachable");
  expect(lines.filter((line) => /^(NODE_|npm_|VITEST)/.test(line))).toEqual([]);
  const state = lines.find((line) => line.startsWith("NETCTL_STATE_DIR="))?.split("=")[1] ?? "";
  expect(state).toMatch(/^\/var\/tmp\/netctl-bench-/);
  expect(existsSync(join(state, "../.."))).toBe(false);
  expect(text).toContain('"sleep 60" runs');
  const service = readFileSync(join(folder, "service"), "utf8").trim();
  expect(existsSync(`/proc/${service}`)).toBe(false);
});
