/** What a Durable Object answers instead of what it was asked for: why not. An exception would be logged as its fault. */
export interface Refusal {
  refused: string;
}

/** An object's methods as a Worker calls them. */
export type Remote<Calls> = {
  [Name in keyof Calls]: Calls[Name] extends (...parameters: infer Parameters) => infer Answer
    ? (...parameters: Parameters) => Promise<Awaited<Answer>>
    : never;
};

/** What an object answered; its refusal becomes the tool's error. */
export function granted<Answer extends object>(answer: Answer | Refusal): Answer {
  if ("refused" in answer) throw new Error(answer.refused);
  return answer;
}

/** Where a list goes on: a number that an earlier page gave as `nextCursor`. */
export function positionOf(cursor: string | undefined, start: number): number {
  if (cursor === undefined) return start;
  if (!/^\d{1,15}$/.test(cursor)) throw new Error("/cursor: is not one that a list gave as nextCursor");
  return Number(cursor);
}
