import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { request, requestInit } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "remote-mcp-authless", "src", "index.ts");

const KEY = 'first line of a key\n\t"quoted\\second": line';
const STATE_KEY = btoa("0123456789abcdef0123456789abcdef");
const SECRETS = { TOKEN: "t0ken-value", TOKEN_LONGER: "t0ken-value-and-more", KEY, PIN: "1234" };

/** What a body logs, and what is read of it. */
const LOGGED: Record<string, [body: string, text: string | RegExp]> = {
  plain: ["console.log('plain', 5, { a: [1] })", "plain 5 { a: [ 1 ] }"],
  text: ["console.log(`a ${env.TOKEN} b`)", "a [secret TOKEN] b"],
  longest: ["console.log(env.TOKEN_LONGER)", "[secret TOKEN_LONGER]"],
  number: ["console.log(Number(env.PIN))", "[secret PIN]"],
  one_line: ["console.log(env.KEY.split('\\n')[1])", "[secret KEY]"],
  json: ["console.log(JSON.stringify({ key: env.KEY }))", '{"key":"[secret KEY]\\n[secret KEY]"}'],
  object: ["console.warn('x', { key: env.KEY })", "x { key: '[secret KEY]\\n[secret KEY]' }"],
  deep: ["console.log({ deep: [{ at: { last: { of: { all: env.TOKEN } } } }] })", /all: '\[secret TOKEN\]'/],
  error: ["console.error(new Error(env.TOKEN, { cause: env.PIN }))", /^Error: \[secret TOKEN\]\n[^]*\[cause\]: '\[secret PIN\]'/],
  map: ["console.log(new Map([[env.TOKEN, env.PIN]]))", "Map(1) { '[secret TOKEN]' => '[secret PIN]' }"],
  url: ["console.debug(new URL(`https://x/?key=${env.TOKEN}`))", /^URL \{\n[^]*href: 'https:\/\/x\/\?key=\[secret TOKEN\]',\n[^]*search: '\?key=\[secret TOKEN\]',\n/],
  headers: ["console.info(new Headers({ authorization: env.TOKEN }))", "Headers(1) { 'authorization' => '[secret TOKEN]', [immutable]: false }"],
  web_objects: ["console.log(new Headers({ accept: 'text/plain' }), new Blob(['x']))", "Headers(1) { 'accept' => 'text/plain', [immutable]: false } Blob { size: 1, type: '' }"],
  private_field: ["console.log(new (class Holder { #token = env.TOKEN; toJSON() { return this.#token; } })())", "Holder {}"],
  streams: ["process.stdout.write(`a ${env.TOKEN}\\n`)", "stdout: a [secret TOKEN]"],
  files: ["(await import('node:fs')).writeSync(1, `a ${env.TOKEN}\\n`)", "stdout: a [secret TOKEN]"],
  hostile: ["console.log({ get [Symbol.toStringTag]() { throw 1; } })", "[a value that cannot be described]"],
  key_of_states: [`console.log("${STATE_KEY}")`, "[secret METAMCP_STATE_KEY]"],
  key_of_checks: ["console.log('publisher-key')", "[secret METAMCP_CHECK_KEY]"],
};

/** On both of the ways that lines take. */
const END = "console.log('end'); console.error('end');";

let server: RunningServer;
const lines: string[] = [];

before(async () => {
  const tools = Object.entries(LOGGED).map(([name, [body]]) => ({ name, body: `${body};\n${END}` }));
  const environment = { METAMCP_STATE_KEY: STATE_KEY, METAMCP_CHECK_KEY: "publisher-key" };
  server = await startServer(entry, generateServer({ tools, secrets: SECRETS, environment }), (line) => lines.push(line));
});
after(() => server.stop());

for (const [name, [, text]] of Object.entries(LOGGED)) {
  test(`what is logged as ${name} shows no secret`, async () => {
    assert.equal((await request(server.url, "2026-07-28", "tools/call", { name, arguments: {} })).error, undefined);
    const logged = (await logLines(lines)).join("\n");
    if (typeof text === "string") assert.equal(logged, text);
    else assert.match(logged, text);
    for (const secret of Object.values(SECRETS)) assert.ok(!logged.includes(secret), logged);
  });
}

test("the token of callers is not logged either", async () => {
  const logged: string[] = [];
  const tools = [{ name: "logs", body: `console.log('of-callers'); ${END}` }];
  const generated = generateServer({ tools, auth: { bearer: { secret: "CALLERS" } }, environment: { CALLERS: "of-callers" } });
  const guarded = await startServer(entry, generated, (line) => logged.push(line));
  try {
    const init = requestInit("2026-07-28", "tools/call", { name: "logs", arguments: {} });
    const headers = { ...init.headers, authorization: "Bearer of-callers" };
    assert.equal((await fetch(`${guarded.url}/mcp`, { ...init, headers })).status, 200);
    assert.deepEqual(await logLines(logged), ["[secret CALLERS]"]);
  } finally {
    await guarded.stop();
  }
});

/** The lines of one call: they come by ways of their own, not with the answer. */
async function logLines(lines: string[]): Promise<string[]> {
  const giveUp = Date.now() + 10_000;
  while (lines.filter((line) => line === "end").length < 2) {
    assert.ok(Date.now() < giveUp, `the log has no end: ${JSON.stringify(lines)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return lines.splice(0).filter((line) => line !== "end");
}
