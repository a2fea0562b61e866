import { CfWorkerJsonSchemaValidator } from "@modelcontextprotocol/server/validators/cf-worker";
import type { JsonSchema } from "./definition.ts";

/** Says what is wrong with a value, or `undefined` when nothing is. */
export type Check = (value: unknown) => string | undefined;

// Every problem is reported, not the first alone: the reader is often a model that has to mend its call.
const validators = new CfWorkerJsonSchemaValidator({ shortcircuit: false });

/** A check against a schema, compiled when it is first needed, so that unused tools cost nothing at start. */
export function createCheck(schema: JsonSchema): Check {
  let validate: ReturnType<typeof validators.getValidator> | undefined;
  return (value) => {
    try {
      validate ??= validators.getValidator(schema);
      const result = validate(value);
      return result.valid ? undefined : readable(result.errorMessage);
    } catch (error) {
      // An unresolved reference or a bad pattern shows only now.
      return `the schema itself cannot be used: ${error instanceof Error ? error.message : String(error)}`;
    }
  };
}

/** Lines that only say that a deeper line exists. */
const ENCLOSING = /: (Property ".*" does not match (additional properties )?schema|Items did not match schema|A subschema had errors)\.$/s;

/** The validator joins its problems with `; `, each one starting with the place as `#/…: `. */
function readable(joined: string): string {
  const problems = joined.split(/; (?=#)/);
  const deepest = problems.filter((problem) => !ENCLOSING.test(problem));
  return (deepest.length > 0 ? deepest : problems).map((problem) => problem.replace(/^#\/?/, "/")).join("; ");
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
    const filled = present ? withDefaults(property, value[name]) : structuredClone(property["default"]);
    if (present && filled === value[name]) continue;
    if (completed === value) completed = { ...value };
    // Not an assignment, since a property may be called `__proto__`.
    Object.defineProperty(completed, name, { value: filled, enumerable: true, writable: true, configurable: true });
  }
  return completed;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
