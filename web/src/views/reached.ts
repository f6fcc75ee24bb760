/** Does something when a person has scrolled to a place. */
import type { Action } from "svelte/action";

/** What is done there, where anything is; and a value of which each is done once. */
export interface Reached {
  readonly by: (() => void) | null;
  readonly at: unknown;
}

export const reached: Action<HTMLElement, Reached> = (node, first) => {
  let now = first;
  let done: unknown;
  const observer = new IntersectionObserver((entries) => {
    if (entries.at(-1)?.isIntersecting === true && now.by !== null && now.at !== done) {
      done = now.at;
      now.by();
    }
  });
  observer.observe(node);
  return {
    update: (next) => {
      now = next;
      // It may have moved: whether it is in view is looked at anew, once the page is laid out.
      observer.unobserve(node);
      observer.observe(node);
    },
    destroy: () => {
      observer.disconnect();
    },
  };
};
