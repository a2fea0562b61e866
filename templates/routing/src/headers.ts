import type { JsonSchema } from "./runtime/definition.ts";
import type { Environment } from "./runtime/environment.ts";
import { isObject } from "./runtime/schema.ts";
import { UpstreamFailure } from "./failure.ts";
import type { SecretHeader } from "./options.ts";

/** The headers of a replica, with the secrets in them. The caller's own credentials are never among them. */
export function secretHeaders(headers: Record<string, SecretHeader>, env: Environment): Record<string, string> {
  const entries = Object.entries(headers).map(([name, { secret, scheme }]) => {
    const value = env[secret];
    // What is wrong with it is said in words of our own, since an error of `Headers` could quote it.
    if (typeof value !== "string" || value === "") throw new UpstreamFailure("refused", `needs the secret ${secret}, which is not set`);
    if (!/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)) {
      throw new UpstreamFailure("refused", `needs the secret ${secret}, which holds characters that a header cannot carry`);
    }
    return [name, scheme === undefined ? value : `${scheme} ${value}`];
  });
  return Object.fromEntries(entries);
}

/**
 * Arguments that a server of MCP 2026-07-28 wants in headers too: those whose schema has `x-mcp-header`. It refuses a
 * call that lacks them.
 */
export function argumentHeaders(schema: JsonSchema, parameters: unknown): Record<string, string> {
  const headers: Record<string, string> = {};
  collect(schema, parameters, headers, DEEPEST_ARGUMENT);
  return headers;
}

const DEEPEST_ARGUMENT = 16;

function collect(schema: unknown, value: unknown, headers: Record<string, string>, depth: number): void {
  if (!isObject(schema) || depth === 0) return;
  const name = schema["x-mcp-header"];
  if (typeof name === "string" && /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/.test(name)) {
    const text = fieldText(value);
    if (text !== undefined) headers[`mcp-param-${name}`] = text;
  }
  const { properties } = schema;
  if (!isObject(properties) || !isObject(value)) return;
  for (const [key, property] of Object.entries(properties)) {
    if (Object.hasOwn(value, key)) collect(property, value[key], headers, depth - 1);
  }
}

/** A primitive as the field of a header; what plain ASCII cannot say is base64 within a sentinel. */
function fieldText(value: unknown): string | undefined {
  if (!["string", "number", "boolean"].includes(typeof value)) return undefined;
  const text = String(value);
  const plain = /^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !/^=\?base64\?.*\?=$/.test(text);
  if (plain) return text;
  let bytes = "";
  for (const byte of new TextEncoder().encode(text)) bytes += String.fromCharCode(byte);
  return `=?base64?${btoa(bytes)}?=`;
}
