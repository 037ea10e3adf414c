// What the VM runs, and what each step leaves in /out.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** An hour of a busy machine; twenty minutes of an idle one. */
const limitMs = 60 * 60_000;
/** How much slower than this machine the VM may be before a limit counts as reached. */
const slowness = 10;

/** Topics of the conformance kit that a kernel has no say in: npm test runs them, and the VM has no time for them. */
const withoutKernel = ["protocol", "delegation", "host-local", "static", "bad-input", "fuzz"];

/** Folders whose kernel tests run; those of the programs above them start too many processes for an emulated machine. */
const folders = ["netlink", "nftables", "kernel", "native", "plugins"];

/**
 * @param {string} root of the repository
 * @param {string[]} allTopics of the conformance kit
 * @param {{ topics: string[], case: string, tests: string[], isLacking: boolean }} selected what to run instead of all that
 *   makes sense: topics, a text that the title of a case or kernel test must contain, texts of which the path of a test
 *   must contain one, and whether only files with tests that some kernels can't run
 */
export function allSteps(root, allTopics, selected) {
  const topics =
    selected.topics.length > 0 ? selected.topics : allTopics.filter((name) => !withoutKernel.includes(name));
  const cases = ["--only", topics.join(","), ...(selected.case === "" ? [] : ["--case", selected.case])];
  const isAsked = selected.tests.length > 0 || selected.isLacking;
  const tests = (isAsked ? everyFolder(root) : folders)
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true }).map((path) => join(folder, path)),
    )
    .filter((path) => path.endsWith(".netns.test.ts"))
    .filter((path) => selected.tests.length === 0 || selected.tests.some((text) => path.includes(text)))
    // The faults are a step of their own.
    .filter(
      (path) =>
        !selected.isLacking || (!path.startsWith("conformance/") && asksForFeatures(join(root, path))),
    );
  if (tests.length === 0)
    throw new TypeError(`No kernel test has ${selected.tests.join(" or ")} in its path`);
  return [
    conformance("netd", "Conformance of our executables, through netd", cases, {}),
    conformance("standalone", "Conformance of our executables, standalone", cases, {
      NETCTL_STANDALONE: "1",
    }),
    {
      name: "faults",
      title: "Faults in networks with VLANs",
      modules: [],
      args: "dist/faults/faults.js --quick --only VLAN --json /out/faults.json".split(" "),
      environment: {},
      limitMs,
    },
    {
      name: "tests",
      title: "Kernel tests",
      // Nothing loads these by itself. Without br_netfilter, as above, bridged frames pass nftables by.
      modules: ["tun", "br_netfilter"],
      args: [
        "node_modules/vitest/vitest.mjs",
        "run",
        // A test as it ends: a file of them takes minutes.
        "--reporter=verbose",
        "--reporter=json",
        "--outputFile.json=/out/tests.json",
        "--maxWorkers=2",
        `--testTimeout=${60_000 * slowness}`,
        `--hookTimeout=${60_000 * slowness}`,
        // A regular expression.
        ...(selected.case === "" ? [] : ["-t", selected.case.replaceAll(/[^\w ]/g, "\\$&")]),
        ...tests.toSorted((left, right) => left.localeCompare(right)),
      ],
      environment: {
        NO_COLOR: "1",
        NETCTL_TEST_PATIENCE: String(slowness),
        NETCTL_RANDOM_CONFIGURATIONS: "500",
      },
      limitMs,
      text: selected.case,
    },
  ];
}

function everyFolder(root) {
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !/^(\.|node_modules$|dist$)/.test(entry.name))
    .map(({ name }) => name);
}

/** Whether tests of the file may be skipped for want of something in the kernel: testing/requires.ts. */
function asksForFeatures(file) {
  return /\b(testWith|hasFeature)\(/.test(readFileSync(file, "utf8"));
}

function conformance(name, title, cases, environment) {
  const program = ["dist/conformance/main.js", "--bin", "dist/bin", "--json", `/out/${name}.json`];
  const limits = ["--patience", String(slowness), "--jobs", "3"];
  return {
    name,
    title,
    // Nothing loads it by itself.
    modules: ["tun"],
    args: [...program, ...limits, ...cases],
    environment,
    limitMs,
  };
}
