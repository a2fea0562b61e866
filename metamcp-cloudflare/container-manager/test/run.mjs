// Runs every spec under Node's own test runner; esbuild turns them into JavaScript first.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const specs = readdirSync(join(root, "test")).filter((file) => file.endsWith(".spec.ts"));
const outdir = join(root, "dist", "test");
await build({
  entryPoints: specs.map((file) => join(root, "test", file)),
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  packages: "external",
  // Its own entry needs workerd; specs of what calls it put commands of this machine in its place.
  alias: { "@cloudflare/sandbox": join(root, "test", "sandbox.ts") },
  platform: "node",
  format: "esm",
  sourcemap: "inline",
});
const files = specs.map((file) => join(outdir, file.replace(/\.ts$/, ".mjs")));
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit", cwd: root });
process.exit(status ?? 1);
