import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nextTime, readTiming, type WrittenTiming } from "../src/timing.ts";

const NOW = Date.parse("2026-03-06T12:00:00Z");

/** The times that follow `from`. */
function times(written: WrittenTiming, from: string, count: number): string[] {
  const read = readTiming(written, 1, Date.parse(from));
  assert.ok("timing" in read, JSON.stringify(read));
  const found = [read.first];
  while (found.length < count) {
    const next = nextTime(read.timing, Date.parse(from), found.at(-1)!);
    if (next === undefined) break;
    found.push(next);
  }
  return found.map((time) => new Date(time).toISOString().replace(/:00\.000Z$/, "Z"));
}

function problems(written: WrittenTiming): string {
  const read = readTiming(written, 60, NOW);
  return "problems" in read ? read.problems.join("\n") : "";
}

describe("cron", () => {
  test("weekdays at nine follow the clocks of their zone", () => {
    const found = times({ cron: "0 9 * * MON-FRI", timeZone: "America/New_York" }, "2026-03-06T12:00:00Z", 3);
    assert.deepEqual(found, ["2026-03-06T14:00Z", "2026-03-09T13:00Z", "2026-03-10T13:00Z"]);
  });

  test("without a zone it is UTC", () => {
    assert.deepEqual(times({ cron: "@daily" }, "2026-03-06T12:00:00Z", 1), ["2026-03-07T00:00Z"]);
  });

  test("a day of the month or a weekday: either is enough, as cron has it", () => {
    assert.deepEqual(times({ cron: "0 0 13 * 5" }, "2026-04-04T00:00:00Z", 2), ["2026-04-10T00:00Z", "2026-04-13T00:00Z"]);
  });

  test("the 29th of February waits for its year", () => {
    assert.deepEqual(times({ cron: "0 0 29 2 *" }, "2026-03-06T12:00:00Z", 2), ["2028-02-29T00:00Z", "2032-02-29T00:00Z"]);
  });
});

describe("in the hour that a day lacks", () => {
  const before = "2026-03-28T12:00:00Z";

  test("a fixed time runs right after it", () => {
    const found = times({ cron: "30 2 * * *", timeZone: "Europe/Berlin" }, before, 2);
    assert.deepEqual(found, ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
  });

  test("one of several fixed times too", () => {
    const found = times({ cron: "30 2,14 * * *", timeZone: "Europe/Berlin" }, before, 4);
    assert.deepEqual(found, ["2026-03-28T13:30Z", "2026-03-29T01:00Z", "2026-03-29T12:30Z", "2026-03-30T00:30Z"]);
  });

  test("a wildcard goes on as if the hour were not", () => {
    const found = times({ cron: "*/30 * * * *", timeZone: "Europe/Berlin" }, "2026-03-29T00:15:00Z", 3);
    assert.deepEqual(found, ["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]);
  });

  test("a local time to run at is moved on by it", () => {
    assert.deepEqual(times({ at: "2026-03-29T02:30", timeZone: "Europe/Berlin" }, before, 2), ["2026-03-29T01:30Z"]);
  });
});

describe("in the hour that a day has twice", () => {
  test("a fixed time runs once, the first time", () => {
    const found = times({ cron: "30 2 * * *", timeZone: "Europe/Berlin" }, "2026-10-24T12:00:00Z", 2);
    assert.deepEqual(found, ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
  });

  test("a wildcard runs in both", () => {
    const found = times({ cron: "*/30 * * * *", timeZone: "Europe/Berlin" }, "2026-10-25T00:15:00Z", 4);
    assert.deepEqual(found, ["2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-25T02:00Z"]);
  });

  test("a local time to run at is the first", () => {
    const found = times({ at: "2026-10-25T02:30:00", timeZone: "Europe/Berlin" }, "2026-10-24T12:00:00Z", 1);
    assert.deepEqual(found, ["2026-10-25T00:30Z"]);
  });
});

test("at takes an offset, which counts more than the zone", () => {
  const written = { at: "2026-12-01T09:00:00+05:30", timeZone: "Europe/Berlin" };
  assert.deepEqual(times(written, "2026-03-06T12:00:00Z", 2), ["2026-12-01T03:30Z"]);
});

test("every keeps to its grid, however many times were missed", () => {
  const read = readTiming({ every: "15m" }, 60, NOW);
  assert.ok("timing" in read);
  assert.equal(read.first, NOW + 15 * 60_000);
  assert.equal(nextTime(read.timing, NOW, NOW + 100 * 60_000), NOW + 105 * 60_000);
  assert.equal(nextTime(read.timing, NOW, NOW + 105 * 60_000), NOW + 120 * 60_000);
});

for (const [what, written, problem] of [
  ["a cron line that never fires", { cron: "0 0 30 2 *" }, /^\/cron: "0 0 30 2 \*" never fires: no date matches/],
  ["the 31st of short months", { cron: "0 0 31 4,6,9,11 *" }, /^\/cron: .* never fires/],
  ["a minute that is none", { cron: "61 0 * * *" }, /^\/cron: Invalid value for minute: 61; write minute, hour, day/],
  ["seconds", { cron: "* * * * * *" }, /^\/cron: .*exactly 5 parts/],
  ["words", { cron: "tomorrow" }, /^\/cron: .*; write minute/],
  ["nothing", { cron: "" }, /^\/cron: /],
  ["a line without end", { cron: "1,".repeat(100) }, /^\/cron: is longer than 128 characters$/],
  ["a start that is no time", { cron: "@reboot" }, /^\/cron: .*@reboot/],
  ["a date as cron", { cron: "2030-01-01T00:00:00" }, /^\/cron: /],
  ["the past", { at: "2026-03-06T11:59:59Z" }, /^\/at: 2026-03-06T11:59:59.000Z is past; it is 2026-03-06T12:00:00.000Z now$/],
  ["a day that is none", { at: "2026-02-30T09:00:00Z" }, /^\/at: "2026-02-30T09:00:00Z" is no date and time/],
  ["a local hour that is none", { at: "2026-12-01T25:00" }, /^\/at: /],
  ["an offset that is none", { at: "2026-12-01T09:00:00+99:00" }, /^\/at: /],
  ["a time without a date", { at: "09:00" }, /^\/at: /],
  ["another century", { at: "2126-01-01T00:00:00Z" }, /^\/at: is more than ten years ahead$/],
  ["less than the least interval", { every: "59s" }, /^\/every: 59s is less than this server's least interval, 60s$/],
  ["an interval without a unit", { every: "15" }, /^\/every: "15" is no interval; write a number and s, m, h or d/],
  ["an interval of nothing", { every: "0m" }, /^\/every: /],
  ["an interval of ages", { every: "99999d" }, /^\/every: is more than ten years$/],
  ["no timing", {}, /^\/: give exactly one of cron, at and every; none is given$/],
  ["two timings", { cron: "@daily", every: "15m" }, /^\/: give exactly one of cron, at and every; cron and every are given$/],
  ["a zone that is none", { cron: "@daily", timeZone: "Mars/Olympus" }, /^\/timeZone: "Mars\/Olympus" is no time zone/],
  ["two mistakes", { cron: "0 0 30 2 *", timeZone: "Z" }, /^\/timeZone: .*\n\/cron: .* never fires/],
] as const) {
  test(`${what} is refused`, () => assert.match(problems(written), problem));
}
