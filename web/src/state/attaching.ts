/**
 * Has files attached to a draft, one after the other: a phone has memory for one photo at a time. Nothing is attached
 * before it is kept, and what is not attached is said.
 */
import { type Excess, excessOf } from "../attach/bounds";
import { type Content, type FileFault, contentOf } from "../attach/file";
import { Observable } from "../observable";
import type { AttachmentStore } from "../store/attachments";
import { StoreError, type StoreFault } from "../store/error";
import type { Attached, SentRow } from "../store/schema";

/** A draft that takes attachments. */
export interface Attachable {
  /** What is attached now. */
  readonly attached: readonly Attached[];
  /** Attaches this, whose bytes are kept, and keeps the draft. */
  attach(one: Attached): Promise<void>;
}

/** A file that was left out, and why. */
export interface LeftOut {
  readonly name: string;
  readonly why: FileFault | Excess | StoreFault;
}

/** What the screen shows. */
export interface AttachingView {
  /** How many files are not done. */
  readonly reading: number;
  /** Of what was last picked. */
  readonly leftOut: readonly LeftOut[];
}

/** See the module's header. */
export class Attaching {
  readonly view = new Observable<AttachingView>({ reading: 0, leftOut: [] });
  readonly #draft: Attachable;
  readonly #store: Pick<AttachmentStore, "put">;
  readonly #host: string;
  readonly #read: (file: File) => Promise<Content | FileFault>;
  /** What was picked before. */
  #before: Promise<void> = Promise.resolve();

  constructor(
    draft: Attachable,
    store: Pick<AttachmentStore, "put">,
    host: string,
    read: (file: File) => Promise<Content | FileFault> = contentOf,
  ) {
    [this.#draft, this.#store, this.#host, this.#read] = [draft, store, host, read];
  }

  /** Attaches these, after those that were picked before. */
  async add(files: readonly File[]): Promise<void> {
    if (files.length === 0) {
      return;
    }
    const { reading } = this.view.value;
    this.view.set({ reading: reading + files.length, leftOut: reading === 0 ? [] : this.view.value.leftOut });
    const mine = this.#before.then(async () => {
      for (const file of files) {
        const why = await this.#addOne(file);
        const { reading, leftOut } = this.view.value;
        const out = why === null ? leftOut : [...leftOut, { name: file.name, why }];
        this.view.set({ reading: reading - 1, leftOut: out });
      }
    });
    this.#before = mine;
    await mine;
  }

  /** What was left out is another draft's, or is known. */
  forget(): void {
    this.view.set({ ...this.view.value, leftOut: [] });
  }

  async #addOne(file: File): Promise<LeftOut["why"] | null> {
    const id = crypto.randomUUID();
    const isFull = excessOf([...this.#draft.attached, { id, name: "", type: "text/plain", bytes: 0 }]);
    if (isFull !== null) {
      return isFull;
    }
    const content = await this.#read(file);
    if (typeof content === "string") {
      return content;
    }
    const { type, data } = content;
    const one: Attached = { id, name: file.name, type, bytes: data.length };
    const excess = excessOf([...this.#draft.attached, one]);
    if (excess !== null) {
      return excess;
    }
    try {
      await this.#store.put({ ...one, host: this.#host, data, at: Date.now() });
    } catch (error) {
      if (!(error instanceof StoreError)) {
        throw error;
      }
      return error.kind;
    }
    await this.#draft.attach(one);
    return null;
  }
}

/** Has the pictures of a prompt that Codex got stay, so that its thread can show them; `null` where there are none. */
export function retained(
  store: Pick<AttachmentStore, "started">,
  host: string,
  sent: SentRow | null,
  attached: readonly Attached[] = [],
): Promise<void> | null {
  if (sent === null || attached.length === 0) {
    return null;
  }
  return store.started(host, sent.id, attached).catch((error: unknown) => {
    // They go with the row then. The prompt has arrived all the same.
    if (!(error instanceof StoreError)) {
      throw error;
    }
  });
}
