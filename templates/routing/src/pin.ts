import type { Tool } from "@modelcontextprotocol/server";
import { canonical } from "./runtime/schema-value.ts";
import type { HiddenTool, ToolList } from "./tool-list.ts";

/** The tools of a list that are still what was accepted; without pins all are. */
export async function onlyAccepted(list: ToolList, pins: Record<string, string> | undefined): Promise<ToolList> {
  if (pins === undefined) return list;
  const tools = new Map<string, Tool>();
  const hidden: HiddenTool[] = [...list.hidden];
  for (const [name, tool] of list.tools) {
    if (!Object.hasOwn(pins, name)) hidden.push({ name, reason: `it is new; ${REMEDY}` });
    else if ((await pinOf(tool)) !== pins[name]) hidden.push({ name, reason: `it is not what was accepted; ${REMEDY}` });
    else tools.set(name, tool);
  }
  return { tools, hidden };
}

const REMEDY = "look at it, accept it and deploy this server again";

/** SHA-256 of everything a tool says of itself, as whoever accepted it computed it. */
async function pinOf(tool: Tool): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(canonical(tool)));
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
