import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { GeneratedServer } from "./workerd.ts";

/** The rendered sample that stands in a template's folder. */
export async function generatedSample(folder: string): Promise<GeneratedServer> {
  const source = join(folder, "src");
  const names = await readdir(join(source, "bodies"));
  const bodies = await Promise.all(
    names.map(async (name) => [basename(name, ".js"), await readFile(join(source, "bodies", name), "utf8")] as const),
  );
  const manifest = JSON.parse(await readFile(join(folder, "template.json"), "utf8"));
  const objects: { binding: string; className: string }[] = manifest.durableObjects ?? [];
  return {
    definition: JSON.parse(await readFile(join(source, "definition.json"), "utf8")),
    bodiesIndex: await readFile(join(source, "bodies.js"), "utf8"),
    bodies: Object.fromEntries(bodies),
    durableObjects: Object.fromEntries(objects.map(({ binding, className }) => [binding, className])),
  };
}
