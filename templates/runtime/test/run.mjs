// Runs every spec of the workspace under Node's own test runner. Node 20 reads no
// TypeScript, so esbuild, which is here anyway, turns the specs into JavaScript first.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const { workspaces } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const specs = workspaces.flatMap((project) =>
  readdirSync(join(root, project, "test"))
    .filter((file) => file.endsWith(".spec.ts"))
    .map((file) => join(root, project, "test", file)),
);
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
