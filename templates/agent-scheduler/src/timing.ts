import { Cron } from "croner";

/** When a schedule runs. */
export type Timing =
  | { kind: "cron"; cron: string; timeZone: string }
  | { kind: "at"; at: number }
  | { kind: "every"; every: string; milliseconds: number };

/** The timing of `create_schedule`, as it was asked for. */
export interface WrittenTiming {
  cron?: string;
  at?: string;
  every?: string;
  timeZone?: string;
}

const DEFAULT_TIME_ZONE = "UTC";
const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const LONGEST_CRON = 128;
/** Neither a time further ahead nor a longer interval is meant. */
const MOST_MILLISECONDS = 10 * 366 * 86_400_000;

/** Date, time and, where it is given, offset of ISO 8601. */
const ISO = /^(\d{4}-\d\d-\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)?$/;

/** The timing and its first time, or everything that is wrong with it, each with the field's JSON pointer. */
export function readTiming(
  written: WrittenTiming,
  leastEverySeconds: number,
  now: number,
): { timing: Timing; first: number } | { problems: string[] } {
  const timeZone = written.timeZone ?? DEFAULT_TIME_ZONE;
  const problems: string[] = [];
  if (!isTimeZone(timeZone)) {
    problems.push(`/timeZone: ${JSON.stringify(timeZone)} is no time zone; write an IANA name such as "Europe/Berlin"`);
  }
  const given = (["cron", "at", "every"] as const).filter((field) => written[field] !== undefined);
  if (given.length !== 1) {
    const found = given.length === 0 ? "none is given" : `${given.join(" and ")} are given`;
    return { problems: [...problems, `/: give exactly one of cron, at and every; ${found}`] };
  }
  const zone = problems.length === 0 ? timeZone : DEFAULT_TIME_ZONE;
  const outcome =
    written.cron !== undefined
      ? readCron(written.cron, zone)
      : written.at !== undefined
        ? readAt(written.at, zone, now)
        : readEvery(written.every ?? "", leastEverySeconds);
  if (typeof outcome === "string") return { problems: [...problems, outcome] };
  const first = nextTime(outcome, now, now);
  if (first === undefined) {
    problems.push(`/cron: ${JSON.stringify(written.cron)} never fires: no date matches its day, month and weekday`);
  }
  return problems.length > 0 || first === undefined ? { problems } : { timing: outcome, first };
}

/** The first time after `now`. The times of an interval lie on a grid through `anchor`. */
export function nextTime(timing: Timing, anchor: number, now: number): number | undefined {
  switch (timing.kind) {
    case "cron":
      return cronOf(timing).nextRun(new Date(now))?.getTime();
    case "at":
      return timing.at > now ? timing.at : undefined;
    case "every":
      return anchor + (Math.floor((now - anchor) / timing.milliseconds) + 1) * timing.milliseconds;
  }
}

/** The fields that were written, for whoever lists the schedule. */
export function writtenTiming(timing: Timing): WrittenTiming {
  switch (timing.kind) {
    case "cron":
      return { cron: timing.cron, timeZone: timing.timeZone };
    case "at":
      return { at: new Date(timing.at).toISOString() };
    case "every":
      return { every: timing.every };
  }
}

function readCron(cron: string, timeZone: string): Timing | string {
  if (cron.length > LONGEST_CRON) return `/cron: is longer than ${LONGEST_CRON} characters`;
  try {
    // Croner would take a date too, as one time.
    if (!/^@|\s/.test(cron.trim())) throw new Error(`${JSON.stringify(cron)} is no cron line`);
    cronOf({ cron, timeZone });
    return { kind: "cron", cron, timeZone };
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^Cron\w+: /, "") : String(error);
    return `/cron: ${reason}; write minute, hour, day, month and weekday, such as "0 9 * * 1-5"`;
  }
}

/** Lists such as `0 2,14 * * *` count as fixed times too: none of theirs is lost in the hour that a day lacks. */
function cronOf({ cron, timeZone }: { cron: string; timeZone: string }): Cron {
  return new Cron(cron, { timezone: timeZone, mode: "5-part", fixedTimeRule: "no-wildcard", paused: true });
}

function readAt(at: string, timeZone: string, now: number): Timing | string {
  const [, date, offset] = ISO.exec(at) ?? [];
  // `Date` takes the 30th of February for the 2nd of March.
  const isWritten = date !== undefined && isDate(date);
  const time = !isWritten ? NaN : offset === undefined ? localTime(at, timeZone) : Date.parse(at);
  if (Number.isNaN(time)) {
    const advice = 'write one such as "2027-01-31T09:00:00Z", or without offset in timeZone';
    return `/at: ${JSON.stringify(at)} is no date and time; ${advice}`;
  }
  if (time <= now) return `/at: ${new Date(time).toISOString()} is past; it is ${new Date(now).toISOString()} now`;
  if (time - now > MOST_MILLISECONDS) return "/at: is more than ten years ahead";
  return { kind: "at", at: time };
}

function isDate(date: string): boolean {
  const time = Date.parse(date);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(date);
}

function localTime(at: string, timeZone: string): number {
  const seconds = /T\d\d:\d\d$/.test(at) ? `${at}:00` : at.replace(/\..*$/, "");
  try {
    return new Cron(seconds, { timezone: timeZone, paused: true }).nextRun(new Date(0))?.getTime() ?? NaN;
  } catch {
    return NaN;
  }
}

function readEvery(every: string, leastSeconds: number): Timing | string {
  const [, count, unit] = /^([1-9]\d{0,8})([smhd])$/.exec(every) ?? [];
  if (count === undefined || unit === undefined) {
    return `/every: ${JSON.stringify(every)} is no interval; write a number and s, m, h or d, such as "15m"`;
  }
  const milliseconds = Number(count) * UNITS[unit]!;
  if (milliseconds < leastSeconds * 1000) return `/every: ${every} is less than this server's least interval, ${leastSeconds}s`;
  if (milliseconds > MOST_MILLISECONDS) return "/every: is more than ten years";
  return { kind: "every", every, milliseconds };
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
