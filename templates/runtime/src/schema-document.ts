import { isObject } from "./schema-value.ts";

/** What applies to one value: an object of keywords, or a verdict. */
export type Schema = boolean | { readonly [keyword: string]: unknown };

/** A part of a document with a URI of its own: the whole, or a schema with `$id`. */
export interface Resource {
  readonly uri: string;
  readonly root: Schema;
  readonly anchors: Map<string, Schema>;
  readonly dynamicAnchors: Map<string, Schema>;
}

/** For a document without `$id`. Only ever compared. */
const NAMELESS = "https://schema.invalid/";

const IN_MAP = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];
const IN_LIST = ["allOf", "anyOf", "oneOf", "prefixItems"];
const ALONE = [
  "additionalProperties",
  "contains",
  "contentSchema",
  "else",
  "if",
  "items",
  "not",
  "propertyNames",
  "then",
  "unevaluatedItems",
  "unevaluatedProperties",
];

/** A schema document: where its schemas stand, and what they are called. */
export class SchemaDocument {
  readonly root: Resource;
  /** Whether any schema depends on what others have looked at, or on the way by which it was reached. */
  unevaluated = false;
  dynamic = false;
  readonly #resources = new Map<string, Resource>();
  readonly #owners = new Map<Schema, Resource>();

  constructor(schema: Schema) {
    this.root = this.#open(NAMELESS, schema);
    this.#visit(schema, this.root);
    // A whole document may also be called by its own `$id`.
    this.root = this.resourceOf(schema);
  }

  /** The resource that a schema stands in. */
  resourceOf(schema: Schema): Resource {
    return this.#owners.get(schema) ?? this.root;
  }

  /** The schema that a reference in `from` names. */
  resolve(from: Schema, reference: string): { schema: Schema; dynamicName: string | undefined } {
    const { uri, fragment } = split(new URL(reference, this.resourceOf(from).uri));
    const resource = this.#resources.get(uri);
    const named = resource?.dynamicAnchors.get(fragment);
    const schema = resource && (named ?? resource.anchors.get(fragment) ?? follow(resource.root, fragment));
    if (schema === undefined) throw new Error(`${reference} names no schema of this document`);
    return { schema, dynamicName: named === undefined ? undefined : fragment };
  }

  #open(uri: string, root: Schema): Resource {
    const resource = { uri, root, anchors: new Map(), dynamicAnchors: new Map() };
    this.#resources.set(uri, resource);
    return resource;
  }

  #visit(schema: unknown, around: Resource): void {
    if (!isObject(schema)) return;
    const id = schema["$id"];
    const resource = typeof id === "string" ? this.#open(split(new URL(id, around.uri)).uri, schema) : around;
    this.#owners.set(schema, resource);
    const { $anchor: anchor, $dynamicAnchor: dynamicAnchor } = schema;
    if (typeof anchor === "string") resource.anchors.set(anchor, schema);
    if (typeof dynamicAnchor === "string") resource.dynamicAnchors.set(dynamicAnchor, schema);
    this.dynamic ||= "$dynamicRef" in schema;
    this.unevaluated ||= "unevaluatedItems" in schema || "unevaluatedProperties" in schema;

    for (const inner of schemasWithin(schema)) this.#visit(inner, resource);
  }
}

function* schemasWithin(schema: Record<string, unknown>): Iterable<unknown> {
  for (const keyword of ALONE) if (Object.hasOwn(schema, keyword)) yield schema[keyword];
  for (const keyword of IN_LIST) if (Array.isArray(schema[keyword])) yield* schema[keyword];
  for (const keyword of IN_MAP) if (isObject(schema[keyword])) yield* Object.values(schema[keyword]);
}

function split(url: URL): { uri: string; fragment: string } {
  const fragment = decodeURIComponent(url.hash.slice(1));
  url.hash = "";
  return { uri: url.href, fragment };
}

/** The schema at a JSON pointer. */
function follow(root: Schema, pointer: string): Schema | undefined {
  if (pointer === "") return root;
  if (!pointer.startsWith("/")) return undefined;
  let at: unknown = root;
  for (const part of pointer.slice(1).split("/")) {
    const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, name)) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return typeof at === "boolean" || isObject(at) ? at : undefined;
}
