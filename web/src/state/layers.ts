/**
 * What lies over a screen, one thing over the other, such as folders that are looked through. The browser's back leads
 * to the one below, as it does from a screen. How many there are stands in the history's entries; the address stays as
 * it is, so that it holds nothing of them.
 */
import { isJson } from "../json";
import { Observable } from "../observable";

/** The parts of a window that it stands on. */
export interface Historied {
  readonly history: Pick<History, "state" | "pushState" | "go">;
  readonly addEventListener: (type: "popstate", heard: (event: Pick<PopStateEvent, "state">) => void) => void;
}

/** How many lie there in an entry of the history. */
function countIn(state: unknown): number {
  const count = isJson(state) ? state.layers : undefined;
  return typeof count === "number" && Number.isSafeInteger(count) && count > 0 ? count : 0;
}

/** See the module's header. */
export class Layers {
  readonly count = new Observable(0);
  readonly #window: Historied;
  /** Whether the browser is on its way back. */
  #leaves = false;

  constructor(window: Historied) {
    this.#window = window;
  }

  /** Begins. What lay there before a reload is gone, and so are its entries. */
  start(): void {
    const { history } = this.#window;
    this.#window.addEventListener("popstate", ({ state }) => {
      this.#leaves = false;
      this.count.set(countIn(state));
    });
    this.#back(countIn(history.state));
  }

  /** Another screen is shown. */
  clear(): void {
    this.count.set(0);
  }

  /** Puts one more over what is there; gives whether it could. */
  add(): boolean {
    if (this.#leaves) {
      return false;
    }
    const layers = this.count.value + 1;
    this.#window.history.pushState({ layers }, "");
    this.count.set(layers);
    return true;
  }

  /** Takes as many of them away; all of them where nobody says how many. */
  drop(many = this.count.value): void {
    this.#back(Math.min(many, this.count.value));
  }

  #back(many: number): void {
    // A second touch meanwhile would lead out of the screen.
    if (many > 0 && !this.#leaves) {
      this.#leaves = true;
      this.#window.history.go(-many);
    }
  }
}
