import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ERAS, readAnswer, request, requestInit, type Answer, type Era } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "remote-mcp-authless", "src", "index.ts");

/** Bodies that do what bodies should not, and what the client reads then. */
const FAILURES: Record<string, [body: string, text: RegExp]> = {
  throws_error: ["\nthrow new Error('first');", /^first \(line 2 of the body\)$/],
  throws_type_error: ["const nothing = null;\nreturn nothing.member;", /^TypeError: Cannot read .* \(line 2 of the body\)$/],
  throws_after_await: ["await new Promise((r) => setTimeout(r, 1));\n\nthrow new RangeError('late');", /^RangeError: late \(line 3 of the body\)$/],
  throws_deep: ["const f = (n) => {\n  if (n === 0) throw new Error('deep');\n  f(n - 1);\n};\nf(50);", /^deep \(line 2 of the body\)$/],
  throws_parse: ["return JSON.parse('{');", /^SyntaxError: .* \(line 1 of the body\)$/],
  throws_string: ["throw 'a string';", /^a string$/],
  throws_undefined: ["throw undefined;", /^the body threw undefined$/],
  throws_null: ["throw null;", /^the body threw null$/],
  throws_symbol: ["throw Symbol('s');", /^the body threw Symbol\(s\)$/],
  throws_object: ["throw { code: 7 };", /^the body threw \{"code":7\}$/],
  throws_circular: ["const o = {}; o.o = o; throw o;", /^the body threw a value that cannot be described$/],
  throws_hostile_message: ["throw Object.defineProperty(new Error(), 'message', { get() { throw 1; } });", /cannot be described/],
  throws_hostile_stack: ["throw Object.defineProperty(new Error('m'), 'stack', { get() { throw 1; } });", /cannot be described/],
  throws_proxy: ["throw new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 1; }, ownKeys() { throw 1; } });", /cannot be described/],
  throws_no_prototype: ["throw Object.create(null);", /^the body threw \{\}$/],
  rejects: ["return Promise.reject(new Error('rejected'));", /^rejected \(line 1 of the body\)$/],
  rejects_aborted: ["return Promise.reject(AbortSignal.abort().reason);", /AbortError/],
  returns_nothing: ["", /^the body returned nothing: return a value$/],
  returns_circular: ["const o = {}; o.o = o; return o;", /cannot be written as JSON: .*circular/],
  returns_bigint: ["return { big: 1n };", /has at "big" a BigInt/],
  returns_nan: ["return [NaN];", /has at "0" NaN/],
  returns_infinity: ["return -Infinity;", /is -Infinity/],
  returns_function: ["return () => 1;", /is a function/],
  returns_symbol: ["return Symbol('s');", /is a symbol/],
  returns_headers: ["return { headers: new Headers({ a: 'b' }) };", /has at "headers" an object of which JSON shows nothing \(Headers\): return `\[\.\.\.value\]` or/],
  returns_iterator: ["return new Map([[1, 2]]).entries();", /is an object of which JSON shows nothing \(Map Iterator\)/],
  returns_private_fields: ["return new (class { #a = 1; })();", /shows nothing: return what is in it as a plain object$/],
  returns_invalid_date: ["return [new Date('soon')];", /has at "0" an invalid Date$/],
  returns_map: ["return new Map([[1, 2]]);", /is a Map: return `Object.fromEntries/],
  returns_response: ["return new Response('x');", /is a Response: return `await response\.json/],
  returns_bytes: ["return new Uint8Array(3);", /is binary/],
  returns_throwing_getter: ["return { get x() { throw new Error('getter'); } };", /getter/],
  returns_throwing_to_json: ["return { toJSON() { throw new Error('to json'); } };", /to json/],
  returns_throwing_then: ["return { then() { throw new Error('thenable'); } };", /^thenable \(line 1 of the body\)$/],
  returns_bad_block: ["return { content: [{ type: 'text' }] };", /invalid MCP result: \/content\/0/],
  returns_bad_type: ["return { content: [{ type: 'video', data: 'x' }] };", /: \/content\/0\/type: must be one of "text", "image", "audio", "resource_link", "resource"$/],
  returns_bad_annotations: ["return { content: [{ type: 'text', text: 'x', annotations: { priority: 'high' } }] };", /invalid MCP result/],
  returns_50_megabytes: ["return 'x'.repeat(50e6);", /has 50000000 bytes, the limit is 4194304 bytes/],
  returns_50_megabytes_of_content: ["return { content: [{ type: 'text', text: 'x'.repeat(50e6) }] };", /has 500000\d\d bytes, the limit is 4194304/],
  returns_50_megabytes_of_bytes: ["return { content: [{ type: 'image', mimeType: 'image/png', data: new Uint8Array(50e6) }] };", /has 50000000 bytes/],
  returns_endless_stream: [
    "const data = new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(65536)); } });\nreturn { content: [{ type: 'image', mimeType: 'image/png', data }] };",
    /more than 4194304 bytes/,
  ],
  returns_broken_stream: [
    "const data = new ReadableStream({ pull(c) { c.error(new Error('torn')); } });\nreturn { content: [{ type: 'image', mimeType: 'image/png', data }] };",
    /^torn/,
  ],
  returns_stuck_stream: [
    "return { content: [{ type: 'image', mimeType: 'image/png', data: new ReadableStream({}) }] };",
    /timed out after 200 ms/,
  ],
  never_resolves: ["return new Promise(() => {});", /^tool "never_resolves" timed out after 200 ms$/],
  calls_itself: ["return ctx.callTool('calls_itself', {});", /nested more than 8 deep/],
  calls_unknown: ["return ctx.callTool('nobody');", /Tool nobody not found/],
  lacks_a_type: ["return { content: [{ type: 'image', data: 'AAAA' }] };", /: \/content\/0\/mimeType: Invalid input: expected string, received undefined$/],
  empty_resource: ["return { content: [{ type: 'resource', resource: { uri: 'a:b' } }] };", /\/resource\/text: Invalid .*, or \/content\/0\/resource\/blob: Invalid/],
  logs_nothing: ["await ctx.log('info');", /^TypeError: what ctx\.log was given is undefined, which JSON cannot express \(line 1/],
  calls_with_a_map: ["await ctx.callTool('nobody', { a: new Map() });", /^TypeError: what ctx\.callTool was given has at "a" a Map/],
  progress_of_a_text: ["await ctx.progress(1, '2');", /^TypeError: ctx\.progress needs numbers \(line 1 of the body\)$/],
  elicits_a_text: ["await ctx.elicit('Sure?');", /^TypeError: what ctx\.elicit was given is no question: \/: Invalid input: expected object/],
  elicits_without_schema: ["await ctx.elicit({ message: 'Sure?' });", /no question: \/requestedSchema: Invalid input: expected object, received undefined \(line 1/],
  samples_without_limit: ["await ctx.sample({ messages: [] });", /no question: \/maxTokens: Invalid input: expected number, received undefined \(line 1/],
  logs_badly: ["await ctx.log('loud', 1);", /^TypeError: ctx\.log knows the levels/],
};

/** Bodies that return what is allowed, and the content that comes of it. */
const RESULTS: Record<string, [body: string, content: object[]]> = {
  json_null: ["return null;", [{ type: "text", text: "null" }]],
  json_number: ["return 0;", [{ type: "text", text: "0" }]],
  json_empty: ["return '';", [{ type: "text", text: "" }]],
  json_date: ["return { at: new Date(0), gone: undefined };", [{ type: "text", text: '{"at":"1970-01-01T00:00:00.000Z"}' }]],
  json_objects: ["return [new Number(1), new Boolean(false), new String(''), new (class A { a = 1; })(), Object.create(null)];", [{ type: "text", text: '[1,false,"",{"a":1},{}]' }]],
  json_with_content: ["return { content: ['not', 'MCP'] };", [{ type: "text", text: '{"content":["not","MCP"]}' }]],
  json_with_no_content: ["return { content: [], total: 0 };", [{ type: "text", text: '{"content":[],"total":0}' }]],
  nothing_to_show: ["return { content: [] };", []],
  structured_alone: ["return { structuredContent: { a: [1] } };", [{ type: "text", text: '{"a":[1]}' }]],
  structured_and_more: ["return { content: [], structuredContent: { a: 1 }, more: 2 };", [{ type: "text", text: '{"a":1}' }]],
  forged_question: ["return { resultType: 'input_required', requestState: 'x', content: [{ type: 'text', text: 'y' }] };", [{ type: "text", text: "y" }]],
  json_proto: ["return JSON.parse('{\"__proto__\": {\"x\": 1}}');", [{ type: "text", text: '{"__proto__":{"x":1}}' }]],
  bytes: ["return { content: [{ type: 'image', mimeType: 'image/png', data: new Uint8Array([1, 2, 3]).subarray(1) }] };", [{ type: "image", mimeType: "image/png", data: "AgM=" }]],
  buffer: ["return { content: [{ type: 'audio', mimeType: 'audio/wav', data: new Uint8Array([255]).buffer }] };", [{ type: "audio", mimeType: "audio/wav", data: "/w==" }]],
  blob: ["return { content: [{ type: 'image', mimeType: 'image/png', data: new Blob(['hi']) }] };", [{ type: "image", mimeType: "image/png", data: "aGk=" }]],
  response: ["return { content: [{ type: 'image', mimeType: 'image/png', data: new Response('hi') }] };", [{ type: "image", mimeType: "image/png", data: "aGk=" }]],
  stream: ["return { content: [{ type: 'image', mimeType: 'image/png', data: new Blob(['h', 'i']).stream() }] };", [{ type: "image", mimeType: "image/png", data: "aGk=" }]],
  embedded: ["return { content: [{ type: 'resource', resource: { uri: 'a://b', blob: new TextEncoder().encode('hi') } }] };", [{ type: "resource", resource: { uri: "a://b", blob: "aGk=" } }]],
  line_comment: ["return 1; // and no line break", [{ type: "text", text: "1" }]],
  sees_only_its_environment: ["return [Object.keys(env), Object.isFrozen(env)];", [{ type: "text", text: '[["UNITS"],true]' }]],
  calls_another: ["return await ctx.callTool('json_number');", [{ type: "text", text: "0" }]],
  swallows_nothing: ["try { await ctx.callTool('throws_error'); } catch { return 'caught'; }\nreturn 'result';", [{ type: "text", text: "result" }]],
};

let server: RunningServer;

before(async () => {
  const bodies = [...Object.entries(FAILURES), ...Object.entries(RESULTS)];
  server = await startServer(
    entry,
    generateServer({
      vars: { UNITS: "metric" },
      environment: { HIDDEN: "not declared" },
      tools: [
        ...bodies.map(([name, [body]]) => ({ name, body })),
        { name: "object_out", body: "return { sum: '1' };", outputSchema: { type: "object", properties: { sum: { type: "number" } }, required: ["sum"] } },
        { name: "array_out", body: "return [1, 2];", outputSchema: { type: "array", items: { type: "number" } } },
        { name: "no_out", body: "return { content: [] };", outputSchema: { type: "object" } },
        {
          name: "nested_defaults",
          body: "return parameters;",
          inputSchema: {
            type: "object",
            properties: {
              options: { type: "object", properties: { deep: { type: "boolean", default: true } } },
              list: { type: "array", items: { type: "number" }, default: [] },
              needed: { type: "string" },
            },
            required: ["needed"],
          },
        },
        { name: "streams", body: "for (;;) {\n  await ctx.progress(1);\n  await new Promise((r) => setTimeout(r, 1));\n}", concurrency: 1 },
        { name: "one_at_a_time", body: "await new Promise((r) => setTimeout(r, 100));\nreturn 1;", concurrency: 1 },
        {
          name: "same_key",
          body: "await Promise.all([ctx.listRoots({ key: 'k' }), ctx.listRoots({ key: 'k' })]);\nreturn 1;",
        },
        { name: "null_progress", body: "await ctx.progress(1, null, null);\nreturn 1;" },
        { name: "empty_key", body: "await ctx.listRoots({ key: '' });\nreturn 1;" },
        {
          name: "two_questions",
          body: "const [a, b] = await Promise.all([ctx.listRoots(), ctx.sample({ messages: [], maxTokens: 1 })]);\nconst c = await ctx.elicit({ message: 'c', requestedSchema: { type: 'object', properties: {} } });\nreturn [a.roots.length, b.model, c.action];",
        },
      ],
      resources: [
        { uri: "r://text", body: "return 'text';" },
        { uri: "r://json", body: "return { a: 1 };" },
        { uri: "r://bytes", body: "return new Uint8Array([1]);" },
        { uri: "r://contents", body: "return { contents: [{ text: 'x' }, { uri: 'r://other', blob: new Uint8Array([1]) }] };" },
        { uri: "r://throws", body: "throw new Error('no');" },
        { uriTemplate: "r://t/{id}{?q,list*}", body: "return variables;" },
        { uriTemplate: "r://path/{+path}", body: "return variables;" },
        { uriTemplate: "r://search/{+path}{?q}", body: "return variables;" },
        { uriTemplate: "r://part{?q}{#part}", body: "return variables;" },
        { uriTemplate: "r://pair/{+a,b}", body: "return variables;" },
        { uriTemplate: "r://more?a=1{&b}", body: "return variables;" },
      ],
      prompts: [
        { name: "text", body: "return 'hello ' + parameters.who;", arguments: ["who"] },
        { name: "messages", body: "return { messages: [{ role: 'assistant', content: { type: 'image', mimeType: 'image/png', data: new Uint8Array([1]) } }] };" },
        { name: "bad", body: "return 7;" },
        { name: "throws", body: "\nthrow new Error('no');" },
      ],
    }),
  );
});

after(() => server?.stop());

for (const era of ERAS) {
  describe(`in ${era}`, () => {
    for (const [name, [, text]] of Object.entries(FAILURES)) {
      test(`failure: ${name}`, async () => {
        const { status, result } = await call(era, name);
        assert.equal(status, 200);
        assert.match(result.content[0].text, text);
        if (name !== "calls_itself") assert.equal(result.isError, true);
      });
    }

    for (const [name, [, content]] of Object.entries(RESULTS)) {
      test(`result: ${name}`, async () => {
        const { result } = await call(era, name);
        assert.deepEqual([result.isError, result.content], [undefined, content]);
      });
    }

    test("output that does not match its schema names the mismatch", async () => {
      const { result } = await call(era, "object_out");
      assert.equal(result.isError, true);
      assert.match(result.content[0].text, /output schema does not allow: \/sum: must be number, not string/);
      assert.match((await call(era, "no_out")).result.content[0].text, /has no structuredContent/);
    });

    test("structured content need not be an object", async () => {
      const { result } = await call(era, "array_out");
      assert.deepEqual(result.structuredContent, era === "2026-07-28" ? [1, 2] : { result: [1, 2] });
    });

    test("defaults go into nested objects, and arguments are checked after that", async () => {
      const { result } = await call(era, "nested_defaults", { options: {}, needed: "x" });
      assert.deepEqual(JSON.parse(result.content[0].text), { options: { deep: true }, needed: "x", list: [] });
    });

    test("every problem of the arguments is named", async () => {
      const { result } = await call(era, "nested_defaults", { options: { deep: 1 }, list: ["a"] });
      assert.equal(result.isError, true);
      for (const place of [/\/options\/deep: /, /\/list\/0: /, /required property "needed"/]) {
        assert.match(result.content[0].text, place);
      }
    });

    test("an unknown tool is an error of the protocol", async () => {
      assert.equal((await call(era, "nobody")).error.code, -32602);
    });

    test("a full tool says that it is busy", async () => {
      const answers = await Promise.all([call(era, "one_at_a_time"), call(era, "one_at_a_time")]);
      const texts = answers.map(({ result }) => result.content[0].text).sort();
      assert.equal(texts[0], "1");
      assert.match(texts[1], /is busy: 1 calls are running already, try again/);
      assert.equal((await call(era, "one_at_a_time")).result.content[0].text, "1");
    });

    test("resources come in every form", async () => {
      assert.equal((await read(era, "r://text")).result.contents[0].text, "text");
      assert.equal((await read(era, "r://json")).result.contents[0].text, '{"a":1}');
      assert.equal((await read(era, "r://bytes")).result.contents[0].blob, "AQ==");
      assert.deepEqual((await read(era, "r://contents")).result.contents, [
        { uri: "r://contents", mimeType: "text/plain", text: "x" },
        { uri: "r://other", mimeType: "text/plain", blob: "AQ==" },
      ]);
      assert.match((await read(era, "r://throws")).error.message, /^no \(line 1 of the body\)$/);
    });

    test("URI templates are matched and decoded", async () => {
      const variables = async (uri: string) => JSON.parse((await read(era, uri)).result.contents[0].text);
      assert.deepEqual(await variables("r://t/a%20b"), { id: "a b" });
      assert.deepEqual(await variables("r://t/a?list=1&q=x%26y&list=2"), { id: "a", q: "x&y", list: ["1", "2"] });
      assert.deepEqual(await variables("r://path/a/b.txt"), { path: "a/b.txt" });
      assert.deepEqual(await variables("r://path/a,b/c.txt?d#e"), { path: "a,b/c.txt?d#e" });
      assert.deepEqual(await variables("r://search/R&D/x,y?q=1&z=2"), { path: "R&D/x,y", q: "1" });
      assert.deepEqual(await variables("r://search/a%3Fb"), { path: "a?b" });
      assert.deepEqual(await variables("r://part?q=1#a,b?"), { q: "1", part: "a,b?" });
      assert.deepEqual(await variables("r://part#a"), { part: "a" });
      assert.deepEqual(await variables("r://pair/x/y,z"), { a: "x/y", b: "z" });
      assert.deepEqual(await variables("r://more?a=1&b=2"), { b: "2" });
    });

    test("a resource that does not exist has its era's code", async () => {
      const { error } = await read(era, "r://t/a/b");
      assert.equal(error.code, era === "2026-07-28" ? -32602 : -32002);
    });

    test("parameters that do not fit are the client's error", async () => {
      const { error } = await prompt(era, "text", { who: 5 });
      assert.equal(error.code, -32602);
      assert.match(error.message, /^Invalid params for prompts\/get: arguments\.who: /);
      assert.equal((await request(server.url, era, "resources/read", {})).error.code, -32602);
      assert.equal((await request(server.url, era, "completion/complete", { ref: 1 })).error.code, -32602);
    });

    test("prompts come in every form", async () => {
      assert.deepEqual((await prompt(era, "text", { who: "you" })).result.messages, [
        { role: "user", content: { type: "text", text: "hello you" } },
      ]);
      assert.equal((await prompt(era, "messages")).result.messages[0].content.data, "AQ==");
      assert.match((await prompt(era, "bad")).error.message, /has to return a string, a list of messages/);
      assert.match((await prompt(era, "throws")).error.message, /^no \(line 2 of the body\)$/);
      assert.match((await prompt(era, "text")).error.message, /lacks the required who/);
      assert.equal((await prompt(era, "nobody")).error.code, -32602);
    });
  });
}

for (const era of ERAS) {
  test(`the slot of a client of ${era} that is gone comes back`, { timeout: 5000 }, async () => {
    const client = new AbortController();
    const response = await fetch(`${server.url}/mcp`, {
      ...requestInit(era, "tools/call", { name: "streams", _meta: { progressToken: 1 } }),
      signal: client.signal,
    });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    client.abort();
    let text;
    do text = (await call(era, "streams")).result.content[0].text;
    while (text.includes("is busy"));
    assert.equal(text, 'tool "streams" timed out after 200 ms');
  });
}

test("questions side by side go out in one round, later ones in the next", async () => {
  const params: Record<string, unknown> = { name: "two_questions", arguments: {} };
  const first = (await request(server.url, "2026-07-28", "tools/call", params)).result;
  assert.deepEqual(Object.keys(first.inputRequests), ["roots-1", "sample-2"]);

  const second = (
    await request(server.url, "2026-07-28", "tools/call", {
      ...params,
      inputResponses: {
        "roots-1": { roots: [{ uri: "file:///a" }] },
        "sample-2": { role: "assistant", content: { type: "text", text: "x" }, model: "m" },
      },
      requestState: first.requestState,
    })
  ).result;
  assert.deepEqual(Object.keys(second.inputRequests), ["elicit-3"]);

  const last = { ...params, inputResponses: { "elicit-3": { action: "decline" } }, requestState: second.requestState };
  assert.equal((await request(server.url, "2026-07-28", "tools/call", last)).result.content[0].text, '[1,"m","decline"]');

  const forged = { ...last, requestState: `${second.requestState.slice(0, -2)}AA` };
  assert.equal((await request(server.url, "2026-07-28", "tools/call", forged)).error.code, -32602);
});

test("a total and a message that are null are none", async () => {
  const answer = await request(server.url, "2025-11-25", "tools/call", { name: "null_progress", _meta: { progressToken: 1 } });
  assert.deepEqual(answer.messages[0].params, { progressToken: 1, progress: 1 });
});

test("the keys of questions are texts, and unique within their call", async () => {
  const ask = async (name: string) => (await call("2026-07-28", name)).result.content[0].text;
  assert.match(await ask("same_key"), /two questions of one call have the key "k"/);
  assert.match(await ask("empty_key"), /the key of a question is a text of 1 to 128 characters/);
});

describe("requests that are no MCP", () => {
  const post = async (body: string, headers: Record<string, string> = {}) =>
    readAnswer(await fetch(`${server.url}/mcp`, { method: "POST", body, headers: { "content-type": "application/json", ...headers } }));

  test("are refused in the terms of HTTP", async () => {
    assert.equal((await fetch(`${server.url}/other`)).status, 404);
    assert.equal((await fetch(`${server.url}/mcp`)).status, 405);
    assert.equal((await fetch(`${server.url}/mcp`, { method: "DELETE" })).status, 405);
    assert.equal((await post("{}", { "content-type": "text/plain" })).status, 415);
    assert.equal((await post("x".repeat(5e6))).status, 413);
    assert.equal((await post("{")).error.code, -32700);
    assert.equal((await post("{}")).error.code, -32600);
    assert.equal((await post("null")).error.code, -32600);
    assert.equal((await post("")).status, 400);
    assert.equal((await post('{"jsonrpc":"2.0","id":1,"method":"ping"}', { "mcp-protocol-version": "1999-01-01" })).status, 400);
  });

  test("an unknown method of 2025 comes with status 200", async () => {
    const { status, error } = await post('{"jsonrpc":"2.0","id":1,"method":"no/such"}');
    assert.deepEqual([status, error.code], [200, -32601]);
  });

  test("notifications and responses are accepted in silence", async () => {
    assert.equal((await post('{"jsonrpc":"2.0","method":"notifications/initialized"}')).status, 202);
    assert.equal((await post('{"jsonrpc":"2.0","id":1,"result":{}}')).status, 202);
  });

  test("a batch of 2025-03-26 is answered as one", async () => {
    const ping = (id: number) => ({ jsonrpc: "2.0", id, method: "ping" });
    const { messages } = await post(JSON.stringify([ping(1), ping(2)]), { accept: "application/json, text/event-stream" });
    assert.deepEqual(messages[0].map(({ id }: { id: number }) => id), [1, 2]);
  });

  test("a foreign origin is refused", async () => {
    assert.equal((await post("{}", { origin: "https://evil.example" })).status, 403);
    assert.equal((await post("{}", { origin: "null" })).status, 403);
    assert.notEqual((await post("{}", { origin: "http://127.0.0.1:1234" })).status, 403);
  });
});

function call(era: Era, name: string, parameters: object = {}): Promise<Answer> {
  return request(server.url, era, "tools/call", { name, arguments: parameters });
}

function read(era: Era, uri: string): Promise<Answer> {
  return request(server.url, era, "resources/read", { uri });
}

function prompt(era: Era, name: string, parameters: object = {}): Promise<Answer> {
  return request(server.url, era, "prompts/get", { name, arguments: parameters });
}
