// Writes .oxlintrc.json from scripts/boundaries.mjs; `npm run check` fails if the two differ.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { lintConfig } from "./boundaries.mjs";

const file = fileURLToPath(new URL("../.oxlintrc.json", import.meta.url));
const wanted = `${JSON.stringify(lintConfig(), null, 2)}\n`;
if (process.argv.includes("--check")) {
  if (readFileSync(file, "utf8") !== wanted) {
    console.error(
      "Cannot accept .oxlintrc.json: it differs from scripts/boundaries.mjs; run node scripts/write-lint-config.mjs",
    );
    process.exit(1);
  }
} else {
  writeFileSync(file, wanted);
}
