/** Text that grows up to a limit; what comes later is left out. */
export class BoundedText {
  text = "";
  isCut = false;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(more: string): void {
    const room = this.#limit - this.text.length;
    this.isCut ||= more.length > room;
    this.text += more.slice(0, Math.max(room, 0));
  }
}

/** The last lines that are not blank, for an error. */
export function tail(text: string, lines: number): string {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-lines)
    .join(" | ");
}
