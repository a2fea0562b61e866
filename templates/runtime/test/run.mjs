// Runs every spec of the workspace under Node's own test runner. Node 20 reads no
// TypeScript, so esbuild, which is here anyway, turns the specs into JavaScript first.
// Arguments choose among them: `npm test -- tool-calling runtime/test/guard`.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const { workspaces } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const chosen = process.argv.slice(2);
const specs = workspaces
  .flatMap((project) => readdirSync(join(root, project, "test")).map((file) => join(project, "test", file)))
  .filter((file) => file.endsWith(".spec.ts") && (chosen.length === 0 || chosen.some((part) => file.includes(part))))
  .map((file) => join(root, file));
const outdir = join(root, "dist", "test");
const { metafile } = await build({
  entryPoints: specs,
  outbase: root,
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  sourcemap: "inline",
  metafile: true,
  absWorkingDir: root,
});

const files = Object.keys(metafile.outputs).map((file) => join(root, file));
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], {
  stdio: "inherit",
  cwd: root,
});
process.exit(status ?? 1);
