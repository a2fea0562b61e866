import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ERAS, readAnswer, request, requestInit } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer } from "./workerd.ts";

const entry = join(process.cwd(), "remote-mcp-authless", "src", "index.ts");

/** What a body may try to do to everything that runs beside it. */
const POLLUTIONS: Record<string, string> = {
  object_prototype: "Object.prototype.polluted = 'yes'; Object.prototype.isError = true;",
  object_prototype_then: "Object.prototype.then = (resolve) => resolve('polluted');",
  to_json: "Object.prototype.toJSON = () => 'polluted'; String.prototype.toJSON = () => 'polluted';",
  defined: "Object.defineProperty(Object.prototype, 'type', { get() { throw new Error('polluted'); }, set() {} });",
  definition: "(await import('../definition.json')).default.tools[1].inputSchema.properties = { key: {} };",
  json: "JSON.stringify = () => { throw new Error('polluted'); }; JSON.parse = () => null;",
  arrays: "for (const name of ['map', 'push', 'includes', 'filter', 'some', 'every', 'join']) Array.prototype[name] = () => 0;",
  iterators: "Array.prototype[Symbol.iterator] = function* () {};",
  strings: "String.prototype.startsWith = () => false; String.prototype.split = () => []; RegExp.prototype.exec = () => null;",
  then: "Promise.prototype.then = () => new Promise(() => {});",
  race: "Promise.race = () => new Promise(() => {}); Promise.all = Promise.race; Promise.withResolvers = () => ({});",
  promise: "globalThis.Promise = class { constructor() { throw new Error('polluted'); } };",
  timers: "globalThis.setTimeout = () => 0; globalThis.clearTimeout = () => 0; await new Promise(() => {});",
  response: "globalThis.Response = class { constructor() { throw new Error('polluted'); } };",
  headers: "Headers.prototype.get = () => null; Request.prototype.text = () => new Promise(() => {});",
  maps: "Map.prototype.get = () => undefined; WeakMap.prototype.get = () => () => new Promise(() => {}); Set.prototype.has = () => false;",
  objects: "Object.keys = () => []; Object.entries = () => []; Object.hasOwn = () => true; Object.freeze = () => null;",
  constructors: "globalThis.Map = globalThis.Set = globalThis.Object = globalThis.Array = undefined;",
  emitters: "const { EventEmitter } = await import('node:events'); EventEmitter.prototype.emit = () => false;",
  emitters_init: "process.constructor.init = () => { throw new Error('polluted'); };",
  console: "console.log = () => { throw new Error('polluted'); };",
  url: "globalThis.URL = undefined; globalThis.TextEncoder = undefined; globalThis.AbortController = undefined;",
};

/** What is there for every call, of Node too. */
const FINE = `
const { EventEmitter } = await import('node:events');
const emitter = new EventEmitter();
let heard = 0;
emitter.on('a', () => (heard += 1));
emitter.emit('a');
console.log('fine');
return 'fine ' + heard;`;

for (const [name, body] of Object.entries(POLLUTIONS)) {
  test(`after ${name} the next call works`, { timeout: 20_000 }, async () => {
    const server = await startServer(
      entry,
      generateServer({ tools: [{ name: "pollutes", body: `${body}\nreturn 1;` }, { name: "fine", body: FINE }] }),
    );
    try {
      for (const era of ERAS) {
        const call = async (tool: string) => {
          const init = requestInit(era, "tools/call", { name: tool, arguments: {} });
          const answer = await fetch(`${server.url}/mcp`, { ...init, signal: AbortSignal.timeout(2000) });
          return readAnswer(answer);
        };
        const { result } = await call("pollutes");
        assert.equal(result.isError, true);
        assert.match(result.content[0].text, /^TypeError: Cannot .* \(line 1 of the body\)$/);
        assert.equal((await call("fine")).result?.content[0].text, "fine 1");
      }
    } finally {
      await server.stop();
    }
  });
}

/** What honest bodies do to their own objects, and what comes of it. */
const HONEST: Record<string, [body: string, text: string]> = {
  names_an_error: ["class Sad extends Error { constructor(m) { super(m); this.name = 'Sad'; } }\nthrow new Sad('why');", "Sad: why (line 2 of the body)"],
  changes_a_message: ["try { null.x; } catch (error) { error.message = 'better'; throw error; }", "TypeError: better (line 1 of the body)"],
  inherits_the_old_way: ["function A() {}\nA.prototype = Object.create(Error.prototype);\nA.prototype.constructor = A;\nA.prototype.toString = () => 'a';\nreturn String(new A());", "a"],
  overrides_to_string: ["const o = {}; o.toString = () => 'own'; o.constructor = 1; o.__proto__ = null; return `${Object.keys(o)}`;", "toString,constructor"],
  keeps_an_own_value: ["const o = { toString: () => 'own' }; o.hasOwnProperty = 1; return `${o} ${Object.hasOwn({}, 'toString')}`;", "own false"],
  cuts_stacks_short: ["const limit = Error.stackTraceLimit; Error.stackTraceLimit = 1; const { stack } = new Error('x'); Error.stackTraceLimit = limit;\nreturn `${stack.split('\\n').length} ${limit}`;", "2 10"],
  extends_what_is_there: ["class Stack extends Array { get top() { return this.at(-1); } }\nreturn `${Stack.from([1, 2]).map((x) => x * 2).top}`;", "4"],
  keeps_a_global: ["globalThis.calls = (globalThis.calls ?? 0) + 1;\nreturn `${globalThis.calls > 0}`;", "true"],
  emits: ["const { EventEmitter } = await import('node:events');\nclass Own extends EventEmitter { on(...given) { return super.on(...given); } }\nOwn.defaultMaxListeners = 3;\nlet sum = 0;\nfor (const e of [new EventEmitter(), new Own()]) { e.on('a', (n) => (sum += n)); e.emit('a', 2); }\nreturn `${sum}`;", "4"],
  hashes: ["const { createHash } = await import('node:crypto');\nreturn createHash('sha256').update('abc').digest('hex').slice(0, 8);", "ba7816bf"],
  streams: ["const { Readable, Transform } = await import('node:stream');\nconst { text } = await import('node:stream/consumers');\nconst up = new Transform({ transform(piece, _, done) { done(null, String(piece).toUpperCase()); } });\nreturn await text(Readable.from(['a', 'b']).pipe(up));", "AB"],
  zips: ["const { gzipSync, gunzipSync } = await import('node:zlib');\nreturn gunzipSync(gzipSync('packed')).toString();", "packed"],
  keeps_files: ["const fs = await import('node:fs/promises');\nawait fs.writeFile('/tmp/a', 'kept');\nreturn await fs.readFile('/tmp/a', 'utf8');", "kept"],
  imports_all_of_node: ["const { builtinModules } = await import('node:module');\nconst broken = [];\nfor (const name of builtinModules) await import(`node:${name}`).catch((error) => broken.push(`${name}: ${error.message}`));\nreturn builtinModules.includes('crypto') ? broken.join() : 'the list is not whole';", ""],
  uses_the_platform: ["const r = new Response('x', { headers: { a: 'b' } });\nreturn `${r.headers.get('a')}${await r.text()}${new URL('a:b').protocol}${structuredClone(new Map([[1, 2]])).get(1)}`;", "bxa:2"],
};

test("what bodies do to their own objects works as ever", async () => {
  const tools = Object.entries(HONEST).map(([name, [body]]) => ({ name, body }));
  const server = await startServer(entry, generateServer({ tools, vars: { UNITS: "metric" } }));
  try {
    for (const [name, [, text]] of Object.entries(HONEST)) {
      const { result } = await request(server.url, "2026-07-28", "tools/call", { name, arguments: {} });
      assert.equal(result.content[0].text, text, name);
    }
  } finally {
    await server.stop();
  }
});
