import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ERAS, request } from "./client.ts";
import { generateServer } from "./generate.ts";
import { startServer, type RunningServer } from "./workerd.ts";

const entry = join(process.cwd(), "remote-mcp-authless", "src", "index.ts");

/** What a body leaves behind, and what is read of it. */
const LEFT: Record<string, [body: string, lines: string[]]> = {
  timer: ["\nsetTimeout(() => { throw new TypeError('late'); }, 1);", ['uncaught in tool "timer": TypeError: late (line 2 of the body)']],
  interval: [
    "const timer = setInterval(() => { clearInterval(timer); throw 'a text'; }, 1);",
    ["uncaught: a text"],
  ],
  async_timer: ["setTimeout(async () => { throw new Error('late'); }, 1);", ['unhandled rejection in tool "async_timer": late (line 1 of the body)']],
  microtask: ["queueMicrotask(() => { throw new Error('soon'); });", ['uncaught in tool "microtask": soon (line 1 of the body)']],
  reported: ["reportError(new Error('told'));", ['uncaught in tool "reported": told (line 1 of the body)']],
  rejection: ["Promise.reject(new Error('alone'));", ['unhandled rejection in tool "rejection": alone (line 1 of the body)']],
  not_awaited: [
    "const work = async () => {\n  await new Promise((resolve) => setTimeout(resolve, 1));\n  throw new Error('forgotten');\n};\nwork();",
    ['unhandled rejection in tool "not_awaited": forgotten (line 3 of the body)'],
  ],
  inner_call: ["ctx.callTool('nobody');", ["unhandled rejection: ProtocolError: Tool nobody not found"]],
  hostile: [
    "Promise.reject(new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 1; } }));",
    ["unhandled rejection: the body threw a value that cannot be described"],
  ],
  secret: ["Promise.reject(new Error(`no ${env.TOKEN}`));", ['unhandled rejection in tool "secret": no [secret TOKEN] (line 1 of the body)']],
  awaited: ["const failing = async () => { throw new Error('awaited'); };\nawait failing().catch(() => {});", []],
  told: ["await ctx.log('info', 'with %s');\nawait ctx.log('critical', { token: env.TOKEN });", ["info with %s", 'critical {"token":"[secret TOKEN]"}']],
};

/** By then timers and what follows them had their turn. */
const PAUSE = "await new Promise((resolve) => setTimeout(resolve, 20));";
/** On both of the ways that lines take. */
const END = "console.log('end'); console.error('end');\nreturn 'done';";

let server: RunningServer;
const lines: string[] = [];

before(async () => {
  const tools = Object.entries(LEFT).map(([name, [body]]) => ({ name, body: `${body}\n${PAUSE}\n${END}`, timeoutMs: 10_000 }));
  server = await startServer(entry, generateServer({ tools, secrets: { TOKEN: "t0ken-value" } }), (line) => lines.push(line));
});
after(() => server.stop());

for (const era of ERAS) {
  for (const [name, [, expected]] of Object.entries(LEFT)) {
    test(`${era}: ${name} is in the log once, and spoils no call`, async () => {
      const { result } = await request(server.url, era, "tools/call", { name, arguments: {} });
      assert.equal(result.content[0].text, "done");
      assert.deepEqual((await logLines()).sort(), expected.toSorted());
    });
  }
}

/** The lines of one call: they come by ways of their own, not with the answer. */
async function logLines(): Promise<string[]> {
  const giveUp = Date.now() + 10_000;
  while (lines.filter((line) => line === "end").length < 2) {
    assert.ok(Date.now() < giveUp, `the log has no end: ${JSON.stringify(lines)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return lines.splice(0).filter((line) => line !== "end");
}
