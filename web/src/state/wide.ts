/** Whether there is room for the list of threads beside a thread. */
import { Observable } from "../observable";

/** As in the style sheet. */
const WIDE = "(min-width: 56rem)";

/** The part of a window that it stands on. */
export interface Sized {
  readonly matchMedia: (media: string) => {
    readonly matches: boolean;
    readonly addEventListener: (type: "change", heard: (event: Pick<MediaQueryListEvent, "matches">) => void) => void;
  };
}

/** Whether it is wide, as long as the page lives. */
export function wideOf(window: Sized): Observable<boolean> {
  const query = window.matchMedia(WIDE);
  const wide = new Observable(query.matches);
  query.addEventListener("change", ({ matches }) => {
    wide.set(matches);
  });
  return wide;
}
