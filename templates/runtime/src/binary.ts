import { BodyFailure } from "./failure.ts";

/** What a body may hand over where MCP wants base64 text. */
type Binary = ArrayBuffer | ArrayBufferView | Blob | ReadableStream | Response;

export function isBinary(value: unknown): value is Binary {
  return (
    value instanceof ArrayBuffer ||
    ArrayBuffer.isView(value) ||
    value instanceof Blob ||
    value instanceof ReadableStream ||
    value instanceof Response
  );
}

/** Base64 of a binary value. Reads a stream only as far as `limit` bytes. */
export async function toBase64(value: Binary, limit: number, signal: AbortSignal): Promise<string> {
  const bytes = await readBytes(value, limit, signal);
  if (bytes.byteLength > limit) throw tooLarge(bytes.byteLength, limit);
  return encode(bytes);
}

export function tooLarge(bytes: number, limit: number): BodyFailure {
  return new BodyFailure(`the response has ${bytes} bytes, the limit is ${limit} bytes: return less`);
}

async function readBytes(value: Binary, limit: number, signal: AbortSignal): Promise<Uint8Array> {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof Blob) return value.size > limit ? fail(value.size, limit) : new Uint8Array(await value.arrayBuffer());
  if (value instanceof Response) {
    if (!value.ok) throw new BodyFailure(`the response used as data has the status ${value.status}`);
    return value.body === null ? new Uint8Array() : readStream(value.body, limit, signal);
  }
  return readStream(value, limit, signal);
}

function fail(bytes: number, limit: number): never {
  throw tooLarge(bytes, limit);
}

async function readStream(stream: ReadableStream, limit: number, signal: AbortSignal): Promise<Uint8Array> {
  const reader = stream.getReader();
  const stop = () => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", stop, { once: true });
  const chunks: Uint8Array[] = [];
  let received = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const chunk = typeof value === "string" ? new TextEncoder().encode(value) : await readBytes(value, limit, signal);
      chunks.push(chunk);
      received += chunk.byteLength;
      if (received > limit) {
        stop();
        throw new BodyFailure(`the response has more than ${limit} bytes, which is the limit: return less`);
      }
    }
  } finally {
    signal.removeEventListener("abort", stop);
  }
  const bytes = new Uint8Array(received);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

/** Called with this many bytes at a time, since arguments go on the stack. A multiple of 3, so that no chunk needs padding. */
const CHUNK = 0x6000;

function encode(bytes: Uint8Array): string {
  let text = "";
  for (let offset = 0; offset < bytes.length; offset += CHUNK) {
    text += btoa(String.fromCharCode(...bytes.subarray(offset, offset + CHUNK)));
  }
  return text;
}
