import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { CloudflareSandbox } from "../src/cloudflare-sandbox.ts";
import { FakeContainer } from "./sandbox.ts";

let container: FakeContainer;
let sandbox: CloudflareSandbox;
beforeEach(async () => {
  container = new FakeContainer();
  mkdirSync(join(container.root, "workspace"));
  sandbox = new CloudflareSandbox(container as never, "id");
  await sandbox.start();
});
afterEach(() => rmSync(container.root, { recursive: true }));

const command = (line: string) => ({ line, cwd: "", timeoutMs: 3_600_000, env: {} });
const ran = () => existsSync(join(container.root, "workspace", "ran"));
/** A command of this test's own, not one by which it is prepared or stopped. */
const isRun = (asked: string) => asked.startsWith("setsid");
const isStop = (asked: string) => asked.includes("kill -s KILL");

test("a command gives its output", async () => {
  const heard: string[] = [];
  const { stdout, exitCode } = await sandbox.run(command("echo one; exit 3"), (_, text) => heard.push(text), new AbortController().signal);
  assert.deepEqual([stdout, exitCode, heard], ["one\n", 3, ["one\n"]]);
});

test("a command that is cancelled while its folder is looked at does not run", async () => {
  const cancel = new AbortController();
  container.before = async () => cancel.abort();
  await assert.rejects(sandbox.run(command("touch ran"), () => {}, cancel.signal), { name: "AbortError" });
  assert.equal(ran(), false);
});

test("a command that is cancelled on its way to the container does not run", async () => {
  const cancel = new AbortController();
  const stopped = Promise.withResolvers<void>();
  const { exec } = container;
  container.exec = async (asked) => {
    const result = await exec.call(container, asked);
    if (isStop(asked)) stopped.resolve();
    return result;
  };
  container.before = async (asked) => {
    if (!isRun(asked)) return;
    cancel.abort();
    await stopped.promise;
  };
  assert.notEqual((await sandbox.run(command("touch ran"), () => {}, cancel.signal)).exitCode, 0);
  assert.equal(ran(), false);
});

test("a command that runs is killed, even if the container does not hear of it at first", async () => {
  const cancel = new AbortController();
  let tries = 0;
  container.before = async (asked) => {
    if (isStop(asked) && ++tries === 1) throw new Error("the container does not answer");
  };
  const { exitCode, stdout } = await sandbox.run(command("echo begun; sleep 1000; touch ran"), () => cancel.abort(), cancel.signal);
  assert.deepEqual([exitCode, stdout, tries, ran()], [137, "begun\n", 2, false]);
});
