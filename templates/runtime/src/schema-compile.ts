import { ASSERTIONS } from "./schema-assertion.ts";
import { SchemaDocument, type Resource, type Schema } from "./schema-document.ts";
import { createPattern } from "./schema-pattern.ts";
import { Evaluated, quote, Run } from "./schema-run.ts";
import { isObject } from "./schema-value.ts";

/** Whether a value is as a schema wants it. `seen` takes down what was looked at, where somebody asks. */
type Validate = (value: unknown, run: Run, seen: Evaluated | undefined) => boolean;

type Keywords = { readonly [keyword: string]: any };

const ANYTHING: Validate = () => true;
const NOTHING: Validate = (_, run) => run.fail(() => "nothing may stand here");

/** Every problem of a value, each with its place; none if it is as the schema wants it. */
export type Explain = (value: unknown) => readonly string[];

/** Makes functions of a JSON Schema of draft 2020-12. They are plain closures: workerd compiles no code at run time. */
export function compileSchema(schema: Schema): Explain {
  const document = new SchemaDocument(schema);
  const validate = new Compiler(document).compile(schema);
  return (value) => {
    if (validate(value, new Run(false, [document.root]), undefined)) return [];
    const run = new Run(true, [document.root]);
    validate(value, run, undefined);
    return run.problems ?? [];
  };
}

class Compiler {
  readonly #document: SchemaDocument;
  readonly #compiled = new Map<Schema, Validate>();

  constructor(document: SchemaDocument) {
    this.#document = document;
  }

  compile(schema: Schema): Validate {
    if (typeof schema === "boolean") return schema ? ANYTHING : NOTHING;
    const known = this.#compiled.get(schema);
    if (known !== undefined) return known;
    let made: Validate | undefined;
    // What refers to the schema from within finds this.
    this.#compiled.set(schema, (value, run, seen) => made?.(value, run, seen) ?? true);
    made = this.#combine(schema);
    this.#compiled.set(schema, made);
    return made;
  }

  #combine(schema: Keywords): Validate {
    const checks = [...this.#assertions(schema), ...this.#applicators(schema)];
    const rest = this.#unevaluated(schema);
    const all = rest.length > 0 ? withRest(checks, rest) : inOrder(checks);
    return this.#document.dynamic && typeof schema["$id"] === "string" ? this.#entering(schema, all) : all;
  }

  #assertions(schema: Keywords): Validate[] {
    return Object.keys(ASSERTIONS).flatMap((keyword): Validate[] => {
      if (!Object.hasOwn(schema, keyword)) return [];
      const assertion = ASSERTIONS[keyword]?.(schema[keyword]);
      if (assertion === undefined) return [];
      const { holds, message } = assertion;
      return [(value, run) => holds(value) || run.fail(() => message(value))];
    });
  }

  #applicators(schema: Keywords): Validate[] {
    return Object.keys(APPLICATORS).flatMap((keyword) => {
      if (!Object.hasOwn(schema, keyword)) return [];
      const validate = APPLICATORS[keyword]?.(schema[keyword], schema, this);
      return validate === undefined ? [] : [validate];
    });
  }

  #unevaluated(schema: Keywords): Validate[] {
    const { unevaluatedProperties: properties, unevaluatedItems: items } = schema;
    return [
      ...(properties === undefined ? [] : [otherMembers(this.compile(properties), isLookedAt)]),
      ...(items === undefined ? [] : [otherItems(this.compile(items))]),
    ];
  }

  /** What a `$ref` in `schema` refers to. */
  reference(schema: Schema, reference: string): Validate {
    return this.#at(this.#document.resolve(schema, reference).schema);
  }

  /** The same for a `$dynamicRef`: the outermost resource on the way here that has such an anchor decides. */
  dynamicReference(schema: Schema, reference: string): Validate {
    const { schema: target, dynamicName } = this.#document.resolve(schema, reference);
    if (dynamicName === undefined) return this.#at(target);
    return (value, run, seen) => {
      const outermost = run.scope.find(({ dynamicAnchors }) => dynamicAnchors.has(dynamicName));
      return this.#at(outermost?.dynamicAnchors.get(dynamicName) ?? target)(value, run, seen);
    };
  }

  #at(target: Schema): Validate {
    return inPlace(this.#document.dynamic ? this.#entering(target, this.compile(target)) : this.compile(target));
  }

  #entering(schema: Schema, validate: Validate): Validate {
    const resource: Resource = this.#document.resourceOf(schema);
    return (value, run, seen) => {
      run.scope.push(resource);
      const ok = validate(value, run, seen);
      run.scope.pop();
      return ok;
    };
  }
}

function inOrder(checks: readonly Validate[]): Validate {
  return (value, run, seen) => {
    let ok = true;
    for (const check of checks) {
      if (check(value, run, seen)) continue;
      ok = false;
      if (!run.goesOn) break;
    }
    return ok;
  };
}

/** What is left over is known only where everything else held, and is of interest only there. */
function withRest(checks: readonly Validate[], rest: readonly Validate[]): Validate {
  const first = inOrder(checks);
  const last = inOrder(rest);
  return (value, run, seen) => {
    const own = new Evaluated();
    if (!first(value, run, own) || !last(value, run, own)) return false;
    seen?.add(own);
    return true;
  };
}

/** A schema for the same value: what it looked at counts only if it holds. */
function inPlace(validate: Validate): Validate {
  return (value, run, seen) => {
    if (seen === undefined) return validate(value, run, undefined);
    const own = new Evaluated();
    if (!validate(value, run, own)) return false;
    seen.add(own);
    return true;
  };
}

/** A schema for a member or an item. */
function within(validate: Validate, value: unknown, run: Run, at: string | number): boolean {
  if (run.problems === undefined) return validate(value, run, undefined);
  run.path.push(at);
  const ok = validate(value, run, undefined);
  run.path.pop();
  return ok;
}

function isLookedAt(name: string, seen: Evaluated | undefined): boolean {
  return seen !== undefined && (seen.everyName || seen.names.has(name));
}

/** Applies `validate` to the members that nothing else is for. */
function otherMembers(
  validate: Validate,
  isSpokenFor: (name: string, seen: Evaluated | undefined) => boolean,
  allowed: readonly string[] = [],
): Validate {
  const hint = allowed.length > 0 ? `: allowed are ${allowed.map(quote).join(", ")}` : "";
  const refused: Validate = (_, run) => run.fail(() => `is no property that is allowed here${hint}`);
  const check = validate === NOTHING ? refused : validate;
  return (value, run, seen) => {
    if (!isObject(value)) return true;
    if (validate === ANYTHING && seen === undefined) return true;
    let ok = true;
    for (const name of Object.keys(value)) {
      if (isSpokenFor(name, seen) || within(check, value[name], run, name)) continue;
      ok = false;
      if (!run.goesOn) return false;
    }
    if (seen !== undefined) seen.everyName = true;
    return ok;
  };
}

/** Applies `validate` to the items that nothing else has looked at. */
function otherItems(validate: Validate): Validate {
  return (value, run, seen) => {
    if (!Array.isArray(value) || seen === undefined) return true;
    let ok = true;
    for (let index = seen.items; index < value.length; index++) {
      if (seen.indexes.has(index) || within(validate, value[index], run, index)) continue;
      ok = false;
      if (!run.goesOn) return false;
    }
    seen.items = Infinity;
    return ok;
  };
}

function eachMissing(names: readonly string[], value: Record<string, unknown>, run: Run, why: string): boolean {
  let ok = true;
  for (const name of names) {
    if (Object.hasOwn(value, name)) continue;
    ok = run.fail(() => `the required property ${quote(name)} is missing${why}`);
    if (!run.goesOn) break;
  }
  return ok;
}

/** Why each of several schemas refuses a value. */
function alternatives(checks: readonly Validate[], value: unknown, run: Run): string {
  return checks
    .map((check, index) => `(${index + 1}) ${run.problemsOf((apart) => check(value, apart, undefined)).join(", ")}`)
    .join(" ");
}

/** By keyword: the check that schemas within make. Those that look at everything else of their kind come last. */
const APPLICATORS: {
  readonly [keyword: string]: (expected: any, schema: Keywords, compiler: Compiler) => Validate | undefined;
} = {
  $ref: (expected: string, schema, compiler) => compiler.reference(schema, expected),
  $dynamicRef: (expected: string, schema, compiler) => compiler.dynamicReference(schema, expected),
  required: (expected: string[]) => (value, run) => !isObject(value) || eachMissing(expected, value, run, ""),
  dependentRequired: (expected: Record<string, string[]>) => {
    const rules = Object.entries(expected);
    return (value, run) => {
      if (!isObject(value)) return true;
      let ok = true;
      for (const [name, names] of rules) {
        if (!Object.hasOwn(value, name)) continue;
        if (!eachMissing(names, value, run, `, which ${quote(name)} needs`)) ok = false;
      }
      return ok;
    };
  },
  dependentSchemas: (expected: Record<string, Schema>, _, compiler) => {
    const rules = Object.entries(expected).map(([name, schema]) => [name, inPlace(compiler.compile(schema))] as const);
    return (value, run, seen) => {
      if (!isObject(value)) return true;
      let ok = true;
      for (const [name, check] of rules) if (Object.hasOwn(value, name) && !check(value, run, seen)) ok = false;
      return ok;
    };
  },
  properties: (expected: Record<string, Schema>, _, compiler) => {
    const members = Object.entries(expected).map(([name, schema]) => [name, compiler.compile(schema)] as const);
    return (value, run, seen) => {
      if (!isObject(value)) return true;
      let ok = true;
      for (const [name, check] of members) {
        if (!Object.hasOwn(value, name)) continue;
        seen?.names.add(name);
        if (within(check, value[name], run, name)) continue;
        ok = false;
        if (!run.goesOn) break;
      }
      return ok;
    };
  },
  patternProperties: (expected: Record<string, Schema>, _, compiler) => {
    const rules = Object.entries(expected).map(([text, schema]) => [createPattern(text), compiler.compile(schema)] as const);
    return (value, run, seen) => {
      if (!isObject(value)) return true;
      let ok = true;
      for (const name of Object.keys(value)) {
        for (const [pattern, check] of rules) {
          if (!pattern(name)) continue;
          seen?.names.add(name);
          if (within(check, value[name], run, name)) continue;
          ok = false;
          if (!run.goesOn) return false;
        }
      }
      return ok;
    };
  },
  additionalProperties: (expected: Schema, schema, compiler) => {
    const names = new Set(Object.keys(schema["properties"] ?? {}));
    const patterns = Object.keys(schema["patternProperties"] ?? {}).map(createPattern);
    const isSpokenFor = (name: string) => names.has(name) || patterns.some((pattern) => pattern(name));
    return otherMembers(compiler.compile(expected), isSpokenFor, patterns.length === 0 ? [...names] : []);
  },
  propertyNames: (expected: Schema, _, compiler) => {
    const check = compiler.compile(expected);
    return (value, run) => {
      if (!isObject(value)) return true;
      let ok = true;
      for (const name of Object.keys(value)) {
        if (check(name, run.quiet, undefined)) continue;
        const problems = () => run.problemsOf((apart) => check(name, apart, undefined)).join(", ");
        ok = run.fail(() => `the name itself is not allowed: ${problems()}`, name);
        if (!run.goesOn) break;
      }
      return ok;
    };
  },
  prefixItems: (expected: Schema[], _, compiler) => {
    const checks = expected.map((schema) => compiler.compile(schema));
    return (value, run, seen) => {
      if (!Array.isArray(value)) return true;
      if (seen !== undefined) seen.items = Math.max(seen.items, checks.length);
      let ok = true;
      for (const [index, check] of checks.entries()) {
        if (index >= value.length || within(check, value[index], run, index)) continue;
        ok = false;
        if (!run.goesOn) break;
      }
      return ok;
    };
  },
  items: (expected: Schema, schema, compiler) => {
    const check = compiler.compile(expected);
    const first = schema["prefixItems"]?.length ?? 0;
    return (value, run, seen) => {
      if (!Array.isArray(value)) return true;
      if (seen !== undefined) seen.items = Infinity;
      let ok = true;
      for (let index = first; index < value.length; index++) {
        if (within(check, value[index], run, index)) continue;
        ok = false;
        if (!run.goesOn) break;
      }
      return ok;
    };
  },
  contains: (expected: Schema, { minContains: least = 1, maxContains: most = Infinity }, compiler) => {
    const check = compiler.compile(expected);
    return (value, run, seen) => {
      if (!Array.isArray(value)) return true;
      let found = 0;
      for (const [index, item] of value.entries()) {
        if (!check(item, run.quiet, undefined)) continue;
        found++;
        seen?.indexes.add(index);
      }
      if (found < least) return run.fail(() => `must have at least ${least} items as \`contains\` says, not ${found}`);
      return found <= most || run.fail(() => `must have at most ${most} items as \`contains\` says, not ${found}`);
    };
  },
  allOf: (expected: Schema[], _, compiler) => inOrder(expected.map((schema) => inPlace(compiler.compile(schema)))),
  anyOf: (expected: Schema[], _, compiler) => {
    const checks = expected.map((schema) => inPlace(compiler.compile(schema)));
    return (value, run, seen) => {
      let ok = false;
      for (const check of checks) {
        if (check(value, run.quiet, seen)) ok = true;
        // Each one that holds may have looked at something else.
        if (ok && seen === undefined) return true;
      }
      return ok || run.fail(() => `matches none of the schemas in \`anyOf\`: ${alternatives(checks, value, run)}`);
    };
  },
  oneOf: (expected: Schema[], _, compiler) => {
    const checks = expected.map((schema) => inPlace(compiler.compile(schema)));
    return (value, run, seen) => {
      const matching: number[] = [];
      for (const [index, check] of checks.entries()) {
        if (matching.length < 2 && check(value, run.quiet, seen)) matching.push(index + 1);
      }
      if (matching.length === 1) return true;
      if (matching.length === 0) {
        return run.fail(() => `matches none of the schemas in \`oneOf\`: ${alternatives(checks, value, run)}`);
      }
      return run.fail(() => `matches more than one schema in \`oneOf\`: (${matching.join(") and (")})`);
    };
  },
  not: (expected: Schema, _, compiler) => {
    const check = compiler.compile(expected);
    // A `seen` of its own: within `not`, what was looked at counts as anywhere else.
    return (value, run) => !check(value, run.quiet, undefined) || run.fail(() => "matches the schema in `not`");
  },
  if: (expected: Schema, { then: yes = true, else: no = true }, compiler) => {
    const condition = inPlace(compiler.compile(expected));
    const positive = inPlace(compiler.compile(yes));
    const negative = inPlace(compiler.compile(no));
    return (value, run, seen) =>
      condition(value, run.quiet, seen) ? positive(value, run, seen) : negative(value, run, seen);
  },
};
