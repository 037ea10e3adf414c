import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { type NetworkList, parseConf, parseConfList } from "#cni/conflist.ts";
import { type Found } from "./finding.ts";
import { type LintSubject, lintedPlugin } from "./subject.ts";

export interface ReadFile {
  readonly file: string;
  /** Undefined for a file that gives no network. */
  readonly subject?: LintSubject;
  readonly findings: readonly Found[];
}

const endings = [".conflist", ".conf", ".json"];

/** Files of a directory that a runtime would look into; of a file, the file. @throws of node:fs */
export async function filesToLint(path: string): Promise<readonly string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const names = (await readdir(path)).filter((name) => endings.some((ending) => name.endsWith(ending)));
  return names.sort().map((name) => join(path, name));
}

export async function readForLint(file: string): Promise<ReadFile> {
  const unusable = (evidence: string): ReadFile => ({
    file,
    findings: [
      {
        id: "unusable",
        severity: "error",
        path: "$",
        evidence,
        remedy: "mend it: no runtime can use the file",
      },
    ],
  });
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    return unusable(`cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    JSON.parse(text);
  } catch (error) {
    // V8 says where.
    return unusable(`no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    const isList = file.endsWith(".conflist") || !file.endsWith(".conf");
    const list = isList && /"plugins"\s*:/.test(text) ? parseConfList(text) : parseConf(text);
    return { file, subject: describe(file, list, text), findings: nameFindings(file, list) };
  } catch (error) {
    return unusable(error instanceof Error ? error.message : String(error));
  }
}

function describe(file: string, { name, cniVersion, json, plugins }: NetworkList, text: string): LintSubject {
  const isSingle = !/"plugins"\s*:/.test(text);
  return {
    file,
    name,
    cniVersion,
    json: isSingle ? (plugins[0]?.json ?? json) : json,
    plugins: plugins.map((plugin, index) =>
      lintedPlugin(plugin.json, isSingle ? "$" : `$.plugins[${index}]`),
    ),
  };
}

function nameFindings(file: string, { plugins }: NetworkList): readonly Found[] {
  const isList = plugins.length > 1;
  if (!isList || file.endsWith(".conflist")) return [];
  return [
    {
      id: "file-name",
      severity: "warning",
      path: "$",
      evidence: `${basename(file)} holds a list, and runtimes look for one in files that end in .conflist`,
      remedy: `rename it to ${basename(file).replace(/\.\w+$/, "")}.conflist`,
    },
  ];
}
