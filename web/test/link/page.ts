/** A page that is what the test says. */
import type { Page, PageEvent } from "../../src/link/page";

export class TestPage implements Page {
  visible = true;
  online = true;
  readonly #hears = new Set<(event: PageEvent) => void>();

  listen(heard: (event: PageEvent) => void): () => void {
    this.#hears.add(heard);
    return () => {
      this.#hears.delete(heard);
    };
  }

  tell(event: PageEvent): void {
    this.#hears.forEach((heard) => {
      heard(event);
    });
  }

  show(): void {
    this.visible = true;
    this.tell("visible");
  }

  hide(): void {
    this.visible = false;
    this.tell("hidden");
  }
}
