// Writes down what the image offers.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const version = (path) => {
  try {
    return JSON.parse(readFileSync(path, "utf8")).version;
  } catch {
    return "";
  }
};
const wrangler = version("/node_modules/wrangler/package.json");
const manifest = {
  node: process.version.slice(1),
  npm: execFileSync("npm", ["--version"], { encoding: "utf8" }).trim(),
  wrangler,
  templates: wrangler === "" ? [] : JSON.parse(readFileSync("/opt/metamcp/templates.json", "utf8")),
};
writeFileSync("/opt/metamcp/manifest.json", JSON.stringify(manifest));
