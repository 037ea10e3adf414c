import { expect, it } from "vitest";
import { writeDurably } from "./durable-file.ts";

it("refuses a place where no directory can be made, instead of trying for ever", async () => {
  const permissions = { mode: 0o600, directoryMode: 0o700 };
  await expect(writeDurably("/proc/nonexistent/a/b", "text", permissions)).rejects.toMatchObject({
    name: "IoError",
    code: "ENOENT",
  });
});
