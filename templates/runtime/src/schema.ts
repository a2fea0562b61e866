import type { JsonSchema } from "./definition.ts";
import { compileSchema, type Explain } from "./schema-compile.ts";
import { isObject } from "./schema-value.ts";

export { isObject };

/** Says what is wrong with a value, or `undefined` when nothing is. */
export type Check = (value: unknown) => string | undefined;

/** A check against a schema, compiled when it is first needed, so that unused tools cost nothing at start. */
export function createCheck(schema: JsonSchema): Check {
  let explain: Explain | undefined;
  return (value) => {
    try {
      explain ??= compileSchema(schema);
      // Every problem, not the first alone: the reader is often a model that has to mend its call.
      const problems = explain(value);
      return problems.length === 0 ? undefined : problems.join("; ");
    } catch (error) {
      if (error instanceof RangeError) return "/: nests too deeply";
      // A schema that no definition brought in may refer to nothing, or have a bad pattern.
      return `the schema itself cannot be used: ${error instanceof Error ? error.message : String(error)}`;
    }
  };
}

/**
 * The value with the `default` of each property that it lacks, for objects within
 * objects too. JSON Schema calls `default` an annotation, so no validator fills it in.
 */
export function withDefaults(schema: unknown, value: unknown): unknown {
  const properties = isObject(schema) ? schema["properties"] : undefined;
  if (!isObject(properties) || !isObject(value)) return value;
  let completed = value;
  for (const [name, property] of Object.entries(properties)) {
    if (!isObject(property)) continue;
    const present = Object.hasOwn(value, name);
    if (!present && !Object.hasOwn(property, "default")) continue;
    const filled = withDefaults(property, present ? value[name] : structuredClone(property["default"]));
    if (present && filled === value[name]) continue;
    if (completed === value) completed = { ...value };
    // Not an assignment, since a property may be called `__proto__`.
    Object.defineProperty(completed, name, { value: filled, enumerable: true, writable: true, configurable: true });
  }
  return completed;
}
