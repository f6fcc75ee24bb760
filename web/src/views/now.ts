/** The time, for what counts down or up on a screen: milliseconds since 1970, each second while somebody looks. */
import { readable } from "svelte/store";

export const now = readable(Date.now(), (set) => {
  set(Date.now());
  const timer = setInterval(() => {
    set(Date.now());
  }, 1_000);
  return () => {
    clearInterval(timer);
  };
});
