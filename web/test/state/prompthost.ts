/** A host that knows prompts by their ids, as the real one does, and answers by hand where it is told to. */
import { ApiClient } from "../../src/api/client";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, list, text } from "../../src/json";

interface Asked {
  readonly id: number;
  readonly method: string;
  readonly params: { readonly id: string; readonly ids: readonly string[] };
  /** All that was asked for. */
  readonly all: Json;
}

function askedIn(bytes: Bytes): Asked {
  const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
  const { id: prompt, ids } = json(params);
  return {
    id: Number(id),
    method: text(method),
    params: { id: text(prompt), ids: list(ids).map(text) },
    all: json(params),
  };
}

/** A host that knows prompts by their ids, as the real one does. */
export class PromptHost {
  journal = "first";
  readonly asked: Asked[] = [];
  readonly known = new Map<string, object>();
  readonly api: ApiClient;
  deaf = false;
  /** Whether prompts that are sent are still on their way. */
  isLossy = false;
  /** Why prompts are refused, and whether what is withdrawn is. */
  refusal: string | null = null;
  isTooLate = false;

  constructor() {
    const user = { notified: () => undefined, missed: () => undefined };
    this.api = new ApiClient((bytes) => {
      const asked = askedIn(bytes);
      this.asked.push(asked);
      if (!this.deaf && !(this.isLossy && asked.method === "prompt/send")) {
        queueMicrotask(() => {
          this.#answer(asked);
        });
      }
    }, user);
  }

  #answer({ id, method, params }: Asked): void {
    const refusal =
      method === "prompt/withdraw" ? this.isTooLate && "too_late" : method === "prompt/send" && this.refusal;
    if (refusal) {
      this.#say({ id, error: { code: -32001, message: `refused: ${refusal}`, data: { reason: refusal } } });
      return;
    }
    const receipt = (of = ""): object => ({ id: of, state: "never", ...this.known.get(of) });
    if (method === "prompt/send") {
      this.known.set(params.id, { state: "taken", takenAt: 1 });
    } else if (method === "prompt/withdraw") {
      this.known.set(params.id, { state: "withdrawn" });
    }
    const read = { journal: this.journal, data: [receipt(params.ids[0])] };
    this.#say({ id, result: method === "prompt/read" ? read : receipt(params.id) });
  }

  #say(message: object): void {
    this.api.message(utf8(JSON.stringify(message)), () => undefined);
  }

  /** Answers what it was deaf to. */
  answers(): void {
    this.asked.forEach((asked) => {
      this.#answer(asked);
    });
  }

  get sent(): readonly string[] {
    return this.asked.filter(({ method }) => method === "prompt/send").map(({ params }) => params.id);
  }
}
