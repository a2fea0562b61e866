import type { EventStore, JSONRPCMessage } from "@modelcontextprotocol/server";

/** What a session keeps for a client that lost its connection. */
const MOST_EVENTS = 256;
const MOST_CHARACTERS = 1024 * 1024;

/** The SDK stores an empty message for the event that a stream begins with. */
const PRIMING = "{}";
/** The SDK's name of the stream that a client opens by GET. */
const STANDALONE = "_GET_stream";

/** The newest events of a session's streams: a client that comes back with `Last-Event-ID` gets what it missed. */
export class SessionEvents implements EventStore {
  readonly #events = new Map<string, { stream: string; text: string }>();
  /** Tells the ids of one time in memory from those of another. */
  readonly #epoch = crypto.randomUUID();
  #stored = 0;
  #characters = 0;

  async storeEvent(stream: string, message: JSONRPCMessage): Promise<string> {
    const id = `${stream}:${this.#epoch}:${(this.#stored += 1)}`;
    const text = JSON.stringify(message);
    this.#events.set(id, { stream, text });
    this.#characters += text.length;
    for (const [oldest, event] of this.#events) {
      if (this.#events.size <= MOST_EVENTS && this.#characters <= MOST_CHARACTERS) break;
      this.#events.delete(oldest);
      this.#characters -= event.text.length;
    }
    return id;
  }

  has(id: string): boolean {
    return this.#events.has(id);
  }

  /** Whether an event was of the stream that a client opens by GET, now or before. */
  isStandalone(id: string): boolean {
    return id.startsWith(`${STANDALONE}:`);
  }

  async replayEventsAfter(
    last: string,
    { send }: { send: (id: string, message: JSONRPCMessage) => Promise<void> },
  ): Promise<string> {
    const stream = this.#events.get(last)?.stream;
    if (stream === undefined) throw new Error("the event is not kept any more");
    const later = [...this.#events].slice([...this.#events.keys()].indexOf(last) + 1);
    for (const [id, event] of later) {
      if (event.stream === stream && event.text !== PRIMING) await send(id, JSON.parse(event.text));
    }
    return stream;
  }
}
