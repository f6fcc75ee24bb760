/**
 * A login to a machine that asks for a code, which the host makes and a person here answers (docs/api.md, `ssh/login`).
 *
 * What was typed passes through {@link Login.answer} and is kept nowhere here. Nothing is asked of somebody who does not
 * look: a question that is left, or comes after that, is closed, and its login ends.
 */
import type { ApiClient } from "../api/client";
import { RequestError, type RequestFault } from "../api/error";
import type { Notification, SshAsked } from "../api/types";
import { Observable } from "../observable";
import { environmentOf } from "./codexes";

/** What the machine asks now. */
export interface Asked {
  readonly question: SshAsked;
  /** When the time for it is over, in milliseconds since 1970. */
  readonly until: number;
  /** Why an answer was not taken, so that it is still to be given. */
  readonly fault: string | null;
}

/**
 * Why a login came to nothing: another one counts, or the last one; a person here ended it; no answer came, so that the
 * host may be logged in; the machine did not let it in after what was typed; or by the host's own words.
 */
export type LoginFailure = "busy" | "ended" | "lost" | "wrong" | "refused";

/** How it is with a login. */
export type LoginView =
  /** None was begun. */
  | { readonly at: "rest" }
  /** The host reaches the machine, the machine looks at what was answered, or the host leaves it. */
  | { readonly at: "waits"; readonly for: "question" | "verdict" | "end" }
  | ({ readonly at: "asked" } & Asked)
  /** Codex can be reached there. */
  | { readonly at: "done" }
  | {
      readonly at: "failed";
      readonly why: LoginFailure;
      readonly message: string;
      /** When the next one may begin, in milliseconds since 1970, where the host said so. */
      readonly again: number | null;
    };

/** See the module's header. */
export class Login {
  readonly alias: string;
  readonly view = new Observable<LoginView>({ at: "rest" });
  readonly #api: Pick<ApiClient, "request">;
  readonly #now: () => number;
  /** Whether a person looks at it. */
  #seen = true;
  /** What the person did about the last question of it. */
  #did: "answer" | "end" | null = null;
  /** Resolves once the last one is over. */
  #over: Promise<void> = Promise.resolve();

  /** To the machine of this name in the host's SSH configuration. */
  constructor(api: Pick<ApiClient, "request">, alias: string, now: () => number = Date.now) {
    [this.#api, this.alias, this.#now] = [api, alias, now];
  }

  /** Whether the host is at it. */
  get isUnderWay(): boolean {
    const { at } = this.view.value;
    return at === "waits" || at === "asked";
  }

  /** Has the host log in, unless it is at it; resolves once that is over, which takes as long as its person does. */
  begin(): Promise<void> {
    if (!this.isUnderWay) {
      this.#did = null;
      this.view.set({ at: "waits", for: "question" });
      this.#over = this.#login();
    }
    return this.#over;
  }

  async #login(): Promise<void> {
    try {
      await this.#api.request("ssh/login", { alias: this.alias });
      this.view.set({ at: "done" });
    } catch (error) {
      this.#failed(refused(error));
    }
  }

  /** Answers what is asked, each prompt in its order. */
  async answer(answers: readonly string[]): Promise<void> {
    const asked = this.view.value;
    if (asked.at !== "asked") {
      return;
    }
    await this.#say(asked, { at: "waits", for: "verdict" }, answers);
  }

  /** Answers nothing, so that the login ends. */
  async end(): Promise<void> {
    const asked = this.view.value;
    if (asked.at === "asked") {
      await this.#say(asked, { at: "waits", for: "end" });
    }
  }

  async #say(asked: Extract<LoginView, { at: "asked" }>, waits: LoginView, answers?: readonly string[]): Promise<void> {
    this.#did = answers === undefined ? "end" : "answer";
    this.view.set(waits);
    const { id } = asked.question;
    try {
      await this.#api.request("ssh/answer", answers === undefined ? { id } : { id, answers: [...answers] });
    } catch (error) {
      const { fault, message } = refused(error);
      // All else ends the login, whose own answer says it; and something else may be asked by now.
      const isOpen = fault.kind === "unsent" || (fault.kind === "refused" && fault.error.data.reason === "params");
      if (isOpen && this.view.value === waits) {
        this.#did = null;
        this.view.set({ ...asked, fault: message });
      }
    }
  }

  /** A person looks: what came of the last one is no news then, unless the next one waits for it. */
  look(): void {
    this.#seen = true;
    const view = this.view.value;
    if (!this.isUnderWay && !(view.at === "failed" && view.again !== null && view.again > this.#now())) {
      this.view.set({ at: "rest" });
    }
  }

  /** Nobody looks any more, so that nothing can be answered; resolves once no login is under way. */
  leave(): Promise<void> {
    this.#seen = false;
    void this.end();
    return this.#over;
  }

  /** What the host says by itself. */
  notified(notification: Exclude<Notification, { method: "notices/missed" }>): void {
    if (notification.method === "ssh/asked" && notification.params.environment === environmentOf(this.alias)) {
      const question = notification.params;
      if (this.isUnderWay) {
        this.#did = null;
        this.view.set({ at: "asked", question, until: this.#now() + question.seconds * 1000, fault: null });
        if (!this.#seen) {
          void this.end();
        }
      }
    }
  }

  /** A question is never among what was not heard. */
  missed(): void {
    // Nothing is to be read anew.
  }

  #failed({ fault, message }: RequestError): void {
    const params = fault.kind === "refused" ? fault.error.data.params : {};
    const seconds = "seconds" in params && typeof params.seconds === "number" ? params.seconds : null;
    this.view.set({
      at: "failed",
      why: this.#why(fault),
      message,
      again: seconds === null ? null : this.#now() + seconds * 1000,
    });
  }

  #why(fault: RequestFault): LoginFailure {
    if (fault.kind !== "refused") {
      return fault.kind === "unsent" ? "refused" : "lost";
    }
    const { reason, params } = fault.error.data;
    if (this.#did === "answer" && params.code === "ssh_auth") {
      return "wrong";
    }
    return this.#did === "end" ? "ended" : reason === "busy" ? "busy" : "refused";
  }
}

function refused(error: unknown): RequestError {
  if (!(error instanceof RequestError)) {
    throw error;
  }
  return error;
}
