import { describe, expect, it } from "vitest";
import { encryptionFindings } from "./encryption.ts";

const seen = {
  networks: [{ name: "secret", blocks: ["10.128.0.0/26"] }],
  hasDevice: false,
  hasKernel: true,
  hasProgram: true,
};
const ids = (more: Partial<Parameters<typeof encryptionFindings>[0]>) =>
  encryptionFindings({ ...seen, ...more }).map(({ id, severity, subject }) => `${severity} ${id} ${subject}`);

describe("what the doctor says of encrypted networks", () => {
  it("is nothing where there are none, or their device is there", () => {
    expect(ids({ networks: [], hasKernel: false, hasProgram: false })).toEqual([]);
    expect(ids({ hasDevice: true })).toEqual([]);
    expect(ids({ networks: [{ name: "secret", blocks: [] }] })).toEqual([]);
  });

  it("names what is missing", () => {
    expect(ids({ hasKernel: false, hasProgram: false })).toEqual(["error encryption-absent secret"]);
    const unused = [{ name: "secret", blocks: [] }];
    expect(ids({ networks: unused, hasKernel: false, hasProgram: false })).toEqual([
      "warning encryption-absent secret",
    ]);
    expect(ids({})).toEqual(["error encryption-down secret"]);
  });
});
