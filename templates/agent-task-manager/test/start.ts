import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { generateServer, type ToolInShort } from "../../runtime/test/generate.ts";
import { startServer, type RunningServer } from "../../runtime/test/workerd.ts";

const folder = join(process.cwd(), "agent-task-manager");
const manifest = JSON.parse(await readFile(join(folder, "template.json"), "utf8"));

/** The options' defaults, as the validation of definitions fills them in. */
const DEFAULTS = Object.fromEntries(
  Object.entries<{ default: unknown }>(manifest.options.properties).map(([name, option]) => [name, option.default]),
);

/** A server of the template. */
export function start(tools: ToolInShort[], options: object): Promise<RunningServer> {
  const server = generateServer({ tools, templateTools: manifest.tools, options: { ...DEFAULTS, ...options } });
  const objects = manifest.durableObjects.map((object: { binding: string; className: string }) => [object.binding, object.className]);
  return startServer(join(folder, "src", "index.ts"), { ...server, durableObjects: Object.fromEntries(objects) });
}
