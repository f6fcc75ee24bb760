/**
 * The whole output of a command of a thread, while somebody looks at it on a screen of its own. Who has followed the
 * command knows more of it than Codex keeps, which is 64 KiB (0.169.0); what did not come along with the thread is read
 * from Codex.
 *
 * Bounded in letters and in lines, and taken apart a piece at a time: a command that wrote megabytes does not hold the
 * page up. What is left out of the middle is counted.
 */
import { CodexError } from "../host/codex";
import { Observable } from "../observable";
import { GrowingTerminal, Terminal, type TerminalLine } from "../terminal";
import type { Item } from "./items";
import { type Output, unhalved } from "./output";
import type { OpenThread } from "./thread";

/** What the screen shows. */
export interface WholeView {
  /** `null` until it is known. */
  readonly command: string | null;
  /** How it ended, as in {@link Item}. */
  readonly end: string;
  readonly live: boolean;
  /** Its beginning, and after `left` characters that are not kept, its end. */
  readonly first: readonly TerminalLine[];
  readonly left: number;
  readonly last: readonly TerminalLine[];
  /** Whether more of it is to come from the host. */
  readonly reading: boolean;
  /** Why it could not be read: for a person. */
  readonly fault: string | null;
}

/** Most that is shown, in characters. */
const MOST_FIRST = 1 << 20;
const MOST_LAST = 3 << 20;
/** Most lines: browsers lay out no page that is higher than some millions of pixels. */
const MOST_FIRST_LINES = 50_000;
const MOST_LAST_LINES = 150_000;
/** Runs that look alike, of which few are in the page at once. */
const MOST_PIECES = 400_000;
/** So many characters are taken apart before the page has its turn. */
const SLICE = 64 * 1024;

const UNKNOWN: WholeView = {
  command: null,
  end: "",
  live: false,
  first: [],
  left: 0,
  last: [],
  reading: true,
  fault: null,
};

/** As much as is shown of an output. */
export function boundedOutput(whole: string): Output {
  const start = Math.min(afterLines(whole, MOST_FIRST_LINES), unhalved(whole, Math.min(MOST_FIRST, whole.length)));
  const from = unhalved(whole, Math.max(start, whole.length - MOST_LAST));
  const end = Math.max(start, from, beforeLines(whole, MOST_LAST_LINES));
  return { start: whole.slice(0, start), end: whole.slice(end), left: end - start };
}

/** Where the line after so many begins. */
function afterLines(whole: string, lines: number): number {
  let at = 0;
  for (let line = 0; line < lines; line++) {
    const end = whole.indexOf("\n", at);
    if (end < 0) {
      return whole.length;
    }
    at = end + 1;
  }
  return at;
}

/** Where the last so many lines begin. */
function beforeLines(whole: string, lines: number): number {
  let at = whole.length;
  for (let line = 0; line <= lines && at > 0; line++) {
    at = whole.lastIndexOf("\n", at - 1);
    if (at < 0) {
      return 0;
    }
  }
  return at === 0 ? 0 : at + 1;
}

/** What it needs of the thread. */
export type WholeSource = Pick<OpenThread, "view" | "command">;

/** See the module's header. {@link WholeOutput.close} ends it. */
export class WholeOutput {
  readonly view = new Observable<WholeView>(UNKNOWN);
  readonly #source: WholeSource;
  readonly #id: string;
  readonly #unsubscribe: () => void;
  readonly #growing = [new GrowingTerminal(), new GrowingTerminal()] as const;
  /** As it was heard last. */
  #item: Item | undefined;
  /** Whether all of it was asked for. */
  #asked = false;
  /** Ends the taking apart of what came before. */
  #showing = new AbortController();
  #closed = false;

  /** Begins to show the output of the command with this id, as {@link Item} has it. */
  constructor(source: WholeSource, id: string) {
    [this.#source, this.#id] = [source, id];
    this.#unsubscribe = source.view.subscribe(({ items }) => {
      this.#learn(items?.find((item) => item.id === id));
    });
    // It may be among none of the items that were read.
    void (this.view.value.live ? undefined : this.#read());
  }

  /** Nobody looks any more. */
  close(): void {
    this.#closed = true;
    this.#unsubscribe();
    this.#showing.abort();
  }

  /** Tries once more to read it. */
  again(): void {
    this.#asked = false;
    void this.#read();
  }

  #learn(item: Item | undefined): void {
    if (item === undefined || item === this.#item || item.kind !== "command") {
      return;
    }
    this.#item = item;
    if (item.live) {
      this.#grow(item);
      return;
    }
    this.#change({ command: item.text, end: item.end, live: false });
    if (item.cut) {
      void this.#read();
    } else if (!this.#asked) {
      this.#asked = true;
      void this.#show(item.output);
    }
  }

  /** While it runs, what is kept of it is all that is known. */
  #grow({ text: command, output: { start, end, left } }: Item): void {
    const [first, last] = this.#growing;
    this.#asked = false;
    this.#change({
      command,
      live: true,
      reading: false,
      first: first.of(left === 0 ? start + end : start),
      left,
      last: left === 0 ? [] : last.of(end),
    });
  }

  async #read(): Promise<void> {
    if (this.#asked) {
      return;
    }
    this.#asked = true;
    this.#change({ reading: true, fault: null });
    try {
      const whole = await this.#source.command(this.#id);
      if (whole === null) {
        throw new CodexError("Codex has no such command in this thread any more.");
      }
      const { command, end, live } = whole;
      this.#change({ command, end, live });
      await this.#show(boundedOutput(whole.output));
    } catch (error) {
      if (!(error instanceof CodexError)) {
        throw error;
      }
      this.#change({ reading: false, fault: error.message });
      if (this.#item?.live === false) {
        // What came along with the thread is better than nothing.
        await this.#show(this.#item.output);
      }
    }
  }

  /** Takes it apart, a piece at a time; what was shown before stays until then. */
  async #show({ start, end, left }: Output): Promise<void> {
    this.#showing.abort();
    this.#showing = new AbortController();
    const { signal } = this.#showing;
    const isOne = left === 0;
    const first = await linesOf(isOne ? start + end : start, signal);
    const last = isOne ? [] : await linesOf(end, signal);
    if (first !== null && last !== null && !signal.aborted) {
      this.#change({ first, left, last, reading: false });
    }
  }

  #change(change: Partial<WholeView>): void {
    if (!this.#closed) {
      this.view.set({ ...this.view.value, ...change });
    }
  }
}

/** The lines of a text; `null` where nobody waits for them any more. */
async function linesOf(whole: string, signal: AbortSignal): Promise<readonly TerminalLine[] | null> {
  const terminal = new Terminal(MOST_PIECES);
  for (let at = 0; at < whole.length; at += SLICE) {
    if (at > 0) {
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (signal.aborted) {
      return null;
    }
    terminal.write(whole.slice(at, at + SLICE));
  }
  return terminal.lines;
}
