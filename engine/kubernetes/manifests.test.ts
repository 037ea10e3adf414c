import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { apiVersion, entryObject, group } from "./objects.ts";

const directory = join(import.meta.dirname, "../../deploy/kubernetes");
const documents = (file: string) =>
  parseAllDocuments(readFileSync(join(directory, file), "utf8")).map((each) => {
    expect(each.errors).toEqual([]);
    return each.toJS() as Record<string, unknown>;
  });

describe("the manifests", () => {
  test("define the resource that the engine writes", () => {
    const [crd] = documents("crd.yaml");
    const { kind, spec } = entryObject("/a", "1");
    expect(crd).toMatchObject({
      metadata: { name: `entries.${group}` },
      spec: {
        group,
        scope: "Namespaced",
        names: { plural: "entries", kind },
        versions: [
          {
            name: apiVersion.split("/")[1],
            schema: { openAPIV3Schema: { properties: { spec: { required: Object.keys(spec) } } } },
          },
        ],
      },
    });
  });

  test("let an account do what the engine does, and nothing else", () => {
    const role = documents("rbac.yaml").find((each) => each["kind"] === "Role");
    expect(role).toMatchObject({
      rules: [
        { apiGroups: [group], resources: ["entries"] },
        { apiGroups: ["coordination.k8s.io"], resources: ["leases"] },
      ],
    });
    expect(JSON.stringify(role)).not.toContain("*");
  });

  test("run the installer in the host's namespaces", () => {
    const [daemonSet] = documents("daemonset.yaml");
    expect(daemonSet).toMatchObject({
      spec: { template: { spec: { hostNetwork: true, hostPID: true, serviceAccountName: "netctl" } } },
    });
    execFileSync("sh", ["-n", join(directory, "install.sh")]);
  });
});
