import { specTypeSchemas, type SpecTypeName } from "@modelcontextprotocol/server";

/** What a schema of the SDK finds wrong. Of a value that may have several forms, `errors` has the problems of each. */
interface Issue {
  message: string;
  path?: readonly (PropertyKey | { key: PropertyKey })[];
  /** Present where one of these was expected: what tells the forms apart, mostly. */
  values?: readonly unknown[];
  errors?: readonly (readonly Issue[])[];
}

/** Everything about a value that the protocol does not allow, each with its JSON pointer. */
export function protocolProblems(type: SpecTypeName, value: unknown): string[] {
  const { issues = [] } = specTypeSchemas[type]["~standard"].validate(value);
  return issues.map((issue) => inWords(issue, []));
}

function inWords({ message, path = [], errors = [] }: Issue, above: readonly string[]): string {
  const here = [...above, ...path.map((part) => String(typeof part === "object" ? part.key : part))];
  if (errors.length === 0) return `/${here.join("/")}: ${message}`;
  // A block of another `type` was not meant: who reads of it would look for the mistake in the wrong place.
  const meant = errors.filter((form) => !form.some(({ values }) => values !== undefined));
  if (meant.length > 0) {
    const forms = meant.map((form) => form.map((issue) => inWords(issue, here)).join(", "));
    return [...new Set(forms)].join(", or ");
  }
  const kinds = errors.flatMap((form) => form.filter(({ values }) => values !== undefined));
  const place = [...here, ...(kinds[0]?.path ?? []).map(String)];
  return `/${place.join("/")}: must be one of ${kinds.flatMap(({ values = [] }) => values).map((kind) => JSON.stringify(kind)).join(", ")}`;
}
