import { UpstreamFailure } from "./failure.ts";

/** How much is read, and until when. */
export interface Bounds {
  bytes: number;
  signal: AbortSignal;
}

/** The text of a body, piece by piece. Leaving the loop cancels what is left. */
export async function* readPieces(body: ReadableStream<Uint8Array>, { bytes, signal }: Bounds): AsyncGenerator<string> {
  const reader = body.getReader();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  const decoder = new TextDecoder();
  let received = 0;
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), aborted.promise]);
      if (done) return;
      received += value.byteLength;
      if (received > bytes) throw new UpstreamFailure("large", `answered with more than ${bytes} bytes, which is the limit`);
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    reader.cancel().catch(() => {});
  }
}

export async function readText(body: ReadableStream<Uint8Array>, bounds: Bounds): Promise<string> {
  const pieces: string[] = [];
  for await (const piece of readPieces(body, bounds)) pieces.push(piece);
  return pieces.join("");
}

/** The data of each event of an event stream, in order. Names and ids of events mean nothing to MCP. */
export async function* readEvents(body: ReadableStream<Uint8Array>, bounds: Bounds): AsyncGenerator<string> {
  let data: string[] = [];
  for await (const line of readLines(body, bounds)) {
    if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    else if (line === "" && data.length > 0) {
      yield data.join("\n");
      data = [];
    }
  }
}

async function* readLines(body: ReadableStream<Uint8Array>, bounds: Bounds): AsyncGenerator<string> {
  // Pieces of a line are joined once it is whole: one of megabytes may come in small pieces.
  let line: string[] = [];
  let held = "";
  for await (const piece of readPieces(body, bounds)) {
    let text = held + piece;
    // A line break may be cut in two.
    held = text.endsWith("\r") ? "\r" : "";
    text = text.slice(0, text.length - held.length);
    const [first = "", ...others] = text.split(/\r\n|\n|\r/);
    line.push(first);
    for (const next of others) {
      yield line.join("");
      line = [next];
    }
  }
  // An event counts when an empty line ends it; a held `\r` may be that line's end.
  yield line.join("");
  if (held !== "") yield "";
}
