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
 * a value is made of. No value holds its separator, so matching never backtracks into one.
 */
const OPERATORS: Record<string, { first: string; separator: string; value: string }> = {
  "": { first: "", separator: ",", value: "[^/?#,]+" },
  "+": { first: "", separator: ",", value: "[^,]+" },
  "#": { first: "#", separator: ",", value: "[^,]+" },
  ".": { first: ".", separator: ".", value: "[^/?#,.]+" },
  "/": { first: "/", separator: "/", value: "[^/?#,]+" },
  ";": { first: ";", separator: ";", value: "[^/?#;]+" },
};

export function createUriMatcher(template: string): UriMatcher {
  const variables: Variable[] = [];
  const queryVariables: Variable[] = [];
  let pattern = "";
  for (const [, literal = "", expression] of template.matchAll(/([^{]*)(?:\{([^}]*)\})?/g)) {
    pattern += escapePattern(literal);
    if (expression === undefined) continue;
    const [, operator = "", list = ""] = /^([+#./;?&]?)(.*)$/s.exec(expression) ?? [];
    const parsed = list.split(",").map((text) => parseVariable(text, OPERATORS[operator]?.separator ?? ","));
    if (operator === "?" || operator === "&") queryVariables.push(...parsed);
    else pattern += expressionPattern(operator, parsed, variables);
  }
  const query = queryVariables.length > 0 ? "(?:[?&]([^#]*))?" : "";
  const expected = new RegExp(`^${pattern}${query}$`, "s");

  return (uri) => {
    const found = expected.exec(uri);
    if (found === null) return undefined;
    const values: Variables = {};
    variables.forEach((variable, index) => {
      const raw = found[index + 1];
      if (raw === undefined) return;
      set(values, variable.name, variable.exploded ? raw.split(variable.separator).map(decode) : decode(raw));
    });
    const parameters = new URLSearchParams(found[variables.length + 1] ?? "");
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

function expressionPattern(operator: string, parsed: Variable[], variables: Variable[]): string {
  const { first, separator, value } = OPERATORS[operator]!;
  return parsed
    .map((variable, index) => {
      variables.push(variable);
      const lead = escapePattern(index === 0 ? first : separator);
      const name = operator === ";" ? `${escapePattern(variable.name)}=?` : "";
      const rest = variable.exploded ? `(?:${escapePattern(separator)}${value})*` : "";
      return `${lead}${name}(${value}${rest})`;
    })
    .join("");
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
