// What runs on a fake API server in the tests, on a real one: `npm run test:kubernetes-api`. kube-apiserver is built once
// into dist/kubernetes, from the source package of Debian 12, whose archive has everything that it depends on, with the
// compiler of Debian 12; kubectl is Debian's. All of it is downloaded by apt with lists and sources of its own, and
// unpacked: nothing of the machine is changed. Tests find it there from then on, those of `npm test` as well.
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const kept = join(root, "dist/kubernetes");
const work = join(root, "dist/kubernetes.work");
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const release = "bookworm";
const compiler = ["golang-1.19-go", "golang-1.19-src"];
/** A library whose copy in the sources reads maps in a way that crashes with compilers of after 1.17. */
const reflection = "golang-github-modern-go-reflect2-dev";
/** The tests that have more to say about a real server. */
const tests = ["engine", "netd/overlay/kubernetes.netns.test.ts"];

function run(command, args, options = {}) {
  const quiet = { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 64 * 1024 * 1024 };
  const { status, stdout, stderr, error } = spawnSync(command, args, { ...quiet, ...options });
  if (error) throw new Error(`Cannot run ${command}: ${error.message}`);
  if (status !== 0)
    throw new Error(`Cannot run "${command} ${args.join(" ")}": ${stderr.trim().slice(-4000)}`);
  return stdout;
}

/** Where apt of this machine has that release from. */
function archive() {
  const format = ["--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"];
  const lines = run("apt-get", ["indextargets", ...format]).split("\n");
  const [, , uri] =
    lines.map((line) => line.split(" ")).find(([name, part]) => name === release && part === "main") ?? [];
  if (!uri) throw new Error(`apt has no source for the component main of Debian ${release}; add one first`);
  return uri;
}

/** Source, compiler and kubectl into the working folder. */
function download() {
  if (!existsSync(keyring))
    throw new Error(`Missing ${keyring}; install it first: apt-get install -y debian-archive-keyring`);
  const apt = join(work, "apt");
  for (const folder of ["lists/partial", "cache/archives/partial"])
    mkdirSync(join(apt, folder), { recursive: true });
  const where = `[signed-by=${keyring}] ${archive()} ${release} main`;
  writeFileSync(join(apt, "sources.list"), `deb ${where}\ndeb-src ${where}\n`);
  const settings = {
    "Dir::Etc::sourcelist": join(apt, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::State::lists": join(apt, "lists"),
    "Dir::Cache": join(apt, "cache"),
    // The downloads are root's, in a folder of root's.
    "APT::Sandbox::User": "root",
  };
  writeFileSync(
    join(apt, "apt.conf"),
    Object.entries(settings)
      .map(([name, value]) => `${name} "${value}";\n`)
      .join(""),
  );
  const options = { cwd: apt, env: { ...process.env, APT_CONFIG: join(apt, "apt.conf") } };
  run("apt-get", ["update", "-qq"], options);
  run("apt-get", ["source", "-qq", "--download-only", "kubernetes"], options);
  run("apt-get", ["download", "-qq", "kubernetes-client", ...compiler, reflection], options);
}

/** @returns the version that the source says it is */
function unpack() {
  const apt = join(work, "apt");
  const archive = readdirSync(apt).find((file) => file.includes(".orig.tar."));
  const version =
    /really([\d.]+)\.orig/.exec(archive ?? "")?.[1] ?? /_([\d.]+)\.orig/.exec(archive ?? "")?.[1];
  if (archive === undefined || version === undefined)
    throw new Error(`Cannot find the source of kubernetes in ${apt}`);
  // GOPATH mode: the sources want to be found by their import path.
  const source = join(work, "gopath/src/k8s.io/kubernetes");
  mkdirSync(source, { recursive: true });
  const wanted = ["cmd", "pkg", "plugin", "staging", "third_party", "vendor"].map(
    (folder) => `*/${folder}/*`,
  );
  run("tar", [
    "-xf",
    join(apt, archive),
    "-C",
    source,
    "--strip-components=1",
    "--wildcards",
    "--no-wildcards-match-slash",
    ...wanted,
  ]);
  for (const deb of readdirSync(apt).filter((file) => file.endsWith(".deb")))
    run("dpkg-deb", ["-x", join(apt, deb), join(work, "debian")]);
  return version;
}

/** The sources are older than the compiler; what depends on how that works inside is mended. */
function mend() {
  const vendor = join(work, "gopath/src/k8s.io/kubernetes/vendor");
  const library = "github.com/modern-go/reflect2";
  rmSync(join(vendor, library), { recursive: true });
  cpSync(join(work, "debian/usr/share/gocode/src", library), join(vendor, library), { recursive: true });
  // Takes the empty text for null where the compiler keeps all zero values in one place: 1.15 did not.
  const file = join(vendor, "k8s.io/kube-openapi/pkg/validation/validate/type.go");
  const text = readFileSync(file, "utf8");
  const isZero = "reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data))";
  if (!text.includes(isZero)) throw new Error(`Cannot mend ${file}: it is not as expected`);
  const isNil = `
func isNil(value reflect.Value) bool {
	kind := value.Kind()
	return (kind == reflect.Map || kind == reflect.Slice || kind == reflect.Ptr) && value.IsNil()
}
`;
  writeFileSync(file, `${text.replace(isZero, "isNil(reflect.ValueOf(data))")}${isNil}`);
}

function build(version) {
  const goRoot = join(work, "debian/usr/lib/go-1.19");
  const source = join(work, "gopath/src/k8s.io/kubernetes");
  const environment = {
    PATH: `${join(goRoot, "bin")}:${process.env.PATH}`,
    HOME: work,
    GOROOT: goRoot,
    GOPATH: join(work, "gopath"),
    GOCACHE: join(work, "cache"),
    GO111MODULE: "off",
    GOFLAGS: "",
    GOPROXY: "off",
    CGO_ENABLED: "0",
  };
  const options = { cwd: source, env: environment };
  const module = "k8s.io/kubernetes";
  // The one generated file that the archive lacks: the types as the server describes them to its clients.
  const generator = join(work, "openapi-gen");
  run("go", ["build", "-o", generator, `${module}/vendor/k8s.io/kube-openapi/cmd/openapi-gen`], options);
  const marked = run(
    "grep",
    ["-rl", "--include=*.go", "^// *+k8s:openapi-gen=", "pkg", "cmd", "plugin", "staging/src/k8s.io"],
    options,
  );
  const folders = marked
    .trim()
    .split("\n")
    .map((file) => file.replace(/^staging\/src\//, "vendor/").replace(/\/[^/]*$/, ""))
    .filter((folder) => !/^vendor\/k8s\.io\/(code-generator|sample-apiserver)\//.test(folder));
  const inputs = [...new Set(folders)].sort().map((folder) => `${module}/${folder}`);
  const words = [
    "-p",
    `${module}/pkg/generated/openapi`,
    "-O",
    "zz_generated.openapi",
    "-r",
    join(work, "violations"),
  ];
  const header = ["-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"];
  run(generator, ["--logtostderr", "-i", inputs.join(","), ...words, ...header], options);

  const [major, minor] = version.split(".");
  const facts = { gitVersion: `v${version}`, gitMajor: major, gitMinor: minor };
  const flags = Object.entries(facts).map(
    ([name, value]) => `-X ${module}/vendor/k8s.io/component-base/version.${name}=${value}`,
  );
  const server = [
    "-ldflags",
    ["-s", "-w", ...flags].join(" "),
    "-o",
    join(work, "kube-apiserver"),
    `${module}/cmd/kube-apiserver`,
  ];
  run("go", ["build", ...server], { ...options, stdio: ["ignore", "inherit", "inherit"] });
}

function ensureServer() {
  if (existsSync(join(kept, "kube-apiserver"))) return;
  const cores = availableParallelism();
  console.error(
    `Building kube-apiserver into dist/kubernetes, once: 145 MB from ${release}'s archive, 2.5 GB of disk meanwhile, and ${Math.ceil(8 / cores)} minutes or more on ${cores} cores`,
  );
  const startMs = performance.now();
  // What an attempt that was cut off has compiled is kept; what it has unpacked may be half there.
  mkdirSync(work, { recursive: true });
  for (const name of readdirSync(work)) if (name !== "cache") rmSync(join(work, name), { recursive: true });
  download();
  const version = unpack();
  mend();
  build(version);
  const fresh = `${kept}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh);
  copyFileSync(join(work, "kube-apiserver"), join(fresh, "kube-apiserver"));
  copyFileSync(join(work, "debian/usr/bin/kubectl"), join(fresh, "kubectl"));
  rmSync(kept, { recursive: true, force: true });
  renameSync(fresh, kept);
  rmSync(work, { recursive: true });
  console.error(
    `kube-apiserver ${version} was built in ${((performance.now() - startMs) / 60_000).toFixed(1)} minutes`,
  );
}

try {
  ensureServer();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
const vitest = [
  "node_modules/vitest/vitest.mjs",
  "run",
  "--reporter=verbose",
  ...tests,
  ...process.argv.slice(2),
];
const { status } = spawnSync(process.execPath, vitest, {
  cwd: root,
  stdio: ["ignore", "inherit", "inherit"],
});
process.exitCode = status ?? 1;
