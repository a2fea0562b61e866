import type { GeneratedServer } from "./workerd.ts";

/** A server in short: what a test leaves out gets a value that does not matter. */
export interface ServerInShort {
  auth?: unknown;
  vars?: Record<string, string>;
  secrets?: Record<string, string>;
  /** Bindings that the definition does not declare. */
  environment?: Record<string, string>;
  tools?: ToolInShort[];
  resources?: ({ body: string } & ({ uri: string } | { uriTemplate: string }))[];
  prompts?: { name: string; body: string; arguments?: string[] }[];
  /** The template's options, defaults filled in. */
  options?: Record<string, unknown>;
  /** The tools of the template's `template.json`. */
  templateTools?: TemplateToolInShort[];
}

export interface ToolInShort {
  name: string;
  body: string;
  inputSchema?: object;
  outputSchema?: object;
  annotations?: object;
  concurrency?: number;
  timeoutMs?: number;
}

export interface TemplateToolInShort {
  name: string;
  description: string;
  inputSchema: object;
  outputSchema?: object;
  timeoutMs?: number;
  timeoutOption?: string;
}

const LIMITS = { timeoutMs: 200, responseBytes: 4 * 1024 * 1024 };

/** What the generator in Rust makes of a definition, as far as the runtime can tell. */
export function generateServer(short: ServerInShort): GeneratedServer {
  const bodies: Record<string, string> = {};

  function module(parameters: string, body: string): string {
    const name = `body-${Object.keys(bodies).length.toString(16).padStart(8, "0")}`;
    bodies[name] = `// Generated.\nexport default async function (${parameters}) {\n${body}\n}\n`;
    return name;
  }

  const definition = {
    name: "spec",
    description: "A server of a test.",
    version: "1.0.0",
    template: "remote-mcp-authless",
    limits: { ...LIMITS, concurrency: 64 },
    auth: short.auth ?? "none",
    vars: Object.keys(short.vars ?? {}),
    secrets: Object.keys(short.secrets ?? {}),
    bindings: [],
    options: short.options ?? {},
    tools: [
      ...(short.tools ?? []).map(({ name, body, inputSchema, concurrency, timeoutMs, ...listed }) => ({
        name,
        description: name,
        inputSchema: inputSchema ?? { type: "object" },
        ...listed,
        limits: { ...LIMITS, ...(concurrency && { concurrency }), ...(timeoutMs && { timeoutMs }) },
        body: module("parameters, env, ctx", body),
      })),
      ...(short.templateTools ?? []).map(({ timeoutMs, timeoutOption, ...listed }) => {
        const option = timeoutOption && short.options?.[timeoutOption];
        return { ...listed, limits: { ...LIMITS, timeoutMs: option ?? timeoutMs ?? LIMITS.timeoutMs } };
      }),
    ],
    resources: (short.resources ?? []).map(({ body, ...place }) => ({
      ...place,
      name: "resource",
      description: "A resource.",
      mimeType: "text/plain",
      limits: LIMITS,
      body: module("uri, variables, env, ctx", body),
    })),
    prompts: (short.prompts ?? []).map(({ name, body, arguments: names }) => ({
      name,
      description: name,
      arguments: (names ?? []).map((argument) => ({ name: argument, description: argument, required: true })),
      limits: LIMITS,
      body: module("parameters, env, ctx", body),
    })),
  };

  const names = Object.keys(bodies);
  const bodiesIndex = [
    ...names.map((name, index) => `import body${index} from "./bodies/${name}.js";`),
    "export const firstBodyLine = 3;",
    `export const bodies = { ${names.map((name, index) => `"${name}": body${index}`).join(", ")} };`,
  ].join("\n");
  return { definition, bodiesIndex, bodies, environment: { ...short.environment, ...short.vars, ...short.secrets } };
}
