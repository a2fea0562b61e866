// Bundles the packages that bodies import into ES modules: bundle.mjs SPECIFIER… in a folder with node_modules.
// Writes out/bodies/<specifier>.js, and what several of them share to out/packages/.
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { dirname, join } from "node:path";
import { init, parse } from "cjs-module-lexer";
import { build } from "esbuild";

const root = process.cwd();
const specifiers = process.argv.slice(2);
const conditions = ["workerd", "worker", "browser"];
const options = {
  absWorkingDir: root,
  bundle: true,
  conditions,
  define: { "process.env.NODE_ENV": '"production"' },
  format: "esm",
  logLevel: "silent",
  mainFields: ["browser", "module", "main"],
  metafile: true,
  minify: true,
  platform: "browser",
  target: "es2024",
};

/** Node's own modules are the runtime's; one that is required is imported, since nothing is required there. */
const builtins = {
  name: "builtins",
  setup(build) {
    build.onResolve({ filter: /^(node|cloudflare|workerd):/ }, ({ kind, path }) =>
      kind === "require-call" ? { path, namespace: "required" } : { path, external: true },
    );
    build.onResolve({ filter: /^[a-z_/0-9]+$/ }, ({ kind, path, importer }) => {
      if (!isBuiltin(path) || importer === "" || isInstalled(path)) return undefined;
      return kind === "require-call" ? { path: `node:${path}`, namespace: "required" } : { path: `node:${path}`, external: true };
    });
    build.onLoad({ filter: /.*/, namespace: "required" }, ({ path }) => ({
      contents: `import library from ${JSON.stringify(path)};\nmodule.exports = library;`,
      loader: "js",
    }));
  },
};

/** A package may have the name of a built-in module, such as `buffer`. */
const isInstalled = (path) => existsSync(join(root, "node_modules", path, "package.json"));

/** The entry of a specifier: what Node would give to `import()` of it. */
const entries = {
  name: "entries",
  setup(build) {
    build.onResolve({ filter: /^entry:/ }, ({ path }) => ({ path: path.slice("entry:".length), namespace: "entry" }));
    build.onLoad({ filter: /.*/, namespace: "entry" }, async ({ path }) => ({
      contents: await entry(path),
      loader: "js",
      resolveDir: root,
    }));
  },
};

async function entry(specifier) {
  const text = JSON.stringify(specifier);
  const { file, format, exports } = await analyze(specifier);
  if (format === "esm") {
    const byDefault = exports.includes("default") ? `\nexport { default } from ${text};` : "";
    return `export * from ${text};${byDefault}`;
  }
  const names = await namesOfCommonJs(file);
  const lines = names.map((name, index) => {
    const quoted = JSON.stringify(name);
    return `const name${index} = library[${quoted}];\nexport { name${index} as ${quoted} };`;
  });
  return [`import library from ${text};`, "export default library;", ...lines].join("\n");
}

async function analyze(specifier) {
  const { metafile } = await build({ ...options, entryPoints: [specifier], outdir: "out", write: false, plugins: [builtins] });
  const output = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined);
  const { format } = metafile.inputs[output.entryPoint];
  return { file: join(root, output.entryPoint), format, exports: output.exports };
}

/** The names Node finds in a CommonJS module without running it. */
async function namesOfCommonJs(file) {
  await init();
  const names = new Set();
  collect(file, names, new Set());
  names.delete("default");
  names.delete("__esModule");
  return [...names].sort();
}

function collect(file, names, seen) {
  if (seen.has(file) || seen.size > 200 || !/\.c?js$/.test(file)) return;
  seen.add(file);
  try {
    const { exports, reexports } = parse(readFileSync(file, "utf8"));
    exports.forEach((name) => names.add(name));
    for (const path of reexports) collect(realpathSync(createRequire(file).resolve(path)), names, seen);
  } catch {
    // What cannot be read this way has its default export only.
  }
}

try {
  await build({
    ...options,
    chunkNames: "packages/[name]-[hash]",
    entryPoints: specifiers.map((specifier) => ({ in: `entry:${specifier}`, out: `bodies/${specifier}` })),
    outdir: "out",
    splitting: true,
    plugins: [entries, builtins],
  });
} catch (error) {
  for (const { text, location } of error.errors ?? [{ text: String(error) }]) {
    console.error(location ? `${location.file}:${location.line}: ${text}` : text);
  }
  process.exitCode = 1;
}
