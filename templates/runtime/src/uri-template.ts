/**
 * Matching of URIs against RFC 6570 templates: which values, put into the template,
 * give this URI? Query expressions match in any order and may be absent.
 */

export type Variables = Record<string, string | string[]>;
export type UriMatcher = (uri: string) => Variables | undefined;

interface Variable {
  name: string;
  exploded: boolean;
  /** What stands between the values of an exploded list. */
  separator: string;
}

/**
 * For each operator: what comes first, what separates values, and which characters
 * a value is made of (any, where it is not said). No value holds its separator, so matching never backtracks into one.
 */
const OPERATORS: Record<string, { first: string; separator: string; value?: string }> = {
  "": { first: "", separator: ",", value: "[^/?#,]+" },
  "+": { first: "", separator: "," },
  "#": { first: "#", separator: "," },
  ".": { first: ".", separator: ".", value: "[^/?#,.]+" },
  "/": { first: "/", separator: "/", value: "[^/?#,]+" },
  ";": { first: ";", separator: ";", value: "[^/?#;]+" },
};

const QUERY = Symbol("query");

export function createUriMatcher(template: string): UriMatcher {
  /** What the pattern's groups hold; `QUERY` for the one of all query expressions. */
  const groups: (Variable | typeof QUERY)[] = [];
  const queryVariables: Variable[] = [];
  const hasQuery = template.includes("{?");
  let pattern = "";
  for (const [, literal = "", expression] of template.matchAll(/([^{]*)(?:\{([^}]*)\})?/g)) {
    pattern += escapePattern(literal);
    if (expression === undefined) continue;
    const [, operator = "", list = ""] = /^([+#./;?&]?)(.*)$/s.exec(expression) ?? [];
    const parsed = list.split(",").map((text) => parseVariable(text, OPERATORS[operator]?.separator ?? ","));
    if (operator !== "?" && operator !== "&") {
      pattern += expressionPattern(operator, parsed, hasQuery);
      groups.push(...parsed);
      continue;
    }
    if (queryVariables.length === 0) {
      pattern += operator === "?" ? "(?:\\?([^#]*))?" : "(?:[?&]([^#]*))?";
      groups.push(QUERY);
    }
    queryVariables.push(...parsed);
  }
  const expected = new RegExp(`^${pattern}$`, "s");

  return (uri) => {
    const found = expected.exec(uri);
    if (found === null) return undefined;
    const values: Variables = {};
    let query = "";
    groups.forEach((variable, index) => {
      const raw = found[index + 1];
      if (raw === undefined) return;
      if (variable === QUERY) query = raw;
      else set(values, variable.name, variable.exploded ? raw.split(variable.separator).map(decode) : decode(raw));
    });
    const parameters = new URLSearchParams(query);
    for (const variable of queryVariables) {
      const all = parameters.getAll(variable.name);
      if (all.length > 0) set(values, variable.name, variable.exploded ? all : all[0]!);
    }
    return values;
  };
}

function parseVariable(text: string, separator: string): Variable {
  const name = text.replace(/\*$|:\d+$/, "").trim();
  return { name, exploded: text.endsWith("*"), separator };
}

function expressionPattern(operator: string, parsed: Variable[], hasQuery: boolean): string {
  const { first, separator, value = reservedValue(operator, parsed, hasQuery) } = OPERATORS[operator]!;
  return parsed
    .map((variable, index) => {
      const lead = escapePattern(index === 0 ? first : separator);
      const name = operator === ";" ? `${escapePattern(variable.name)}=?` : "";
      const rest = variable.exploded ? `(?:${escapePattern(separator)}${value})*` : "";
      return `${lead}${name}(${value}${rest})`;
    })
    .join("");
}

/** What may be any character, but for those that end it: a comma before another value, `?` where a query may follow. */
function reservedValue(operator: string, parsed: Variable[], hasQuery: boolean): string {
  const isList = parsed.length > 1 || parsed[0]?.exploded;
  return `[^${isList ? "," : ""}${operator === "+" && hasQuery ? "?" : ""}]+`;
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** Not an assignment, since a variable may be called `__proto__`. */
function set(values: Variables, name: string, value: string | string[]): void {
  Object.defineProperty(values, name, { value, enumerable: true, writable: true, configurable: true });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A lone `%`: the text is what was meant.
    return text;
  }
}
