/**
 * Whether somebody has seen what is asked to its ends: each end was wholly in the visible part of the page for a while,
 * and the page was one that somebody looks at.
 */

/** How long an end has to be there, in milliseconds. */
const LONG_ENOUGH = 400;
/** Ends of what has to be read. */
const ENDS = "[data-end]";
/** About the height of a line on the screen, in pixels. */
const LINE = 20;

/** Who hears of it. */
export interface Watcher {
  /** All ends were seen. */
  readonly seen: () => void;
  /** About so many lines, as they are on the screen, are below what is visible. */
  readonly left: (lines: number) => void;
}

/** Watches until the function that is returned is called. `body` scrolls; `asked` is in it. */
export function watchEnds(body: HTMLElement, asked: HTMLElement, { seen, left }: Watcher): () => void {
  const ends = [...asked.querySelectorAll(ENDS)];
  const missing = new Set(ends);
  const timers = new Map<Element, number>();
  const stop = new AbortController();
  let frame = 0;

  const isThere = (end: Element): boolean => {
    const [inner, outer] = [end.getBoundingClientRect(), body.getBoundingClientRect()];
    // On a screen on which an end is taller than what is visible its last line has to do.
    const begins = inner.top >= outer.top - 1 || inner.height > outer.height;
    return inner.height > 0 && begins && inner.bottom <= outer.bottom + 1 && inner.bottom > outer.top;
  };
  const look = (): void => {
    const looks =
      document.visibilityState === "visible" && document.hasFocus() && document.querySelector("dialog[open]") === null;
    for (const end of missing) {
      const timer = timers.get(end);
      if (!looks || !isThere(end)) {
        clearTimeout(timer);
        timers.delete(end);
      } else if (timer === undefined) {
        timers.set(
          end,
          window.setTimeout(() => {
            passed(end);
          }, LONG_ENOUGH),
        );
      }
    }
    const below = (ends.at(-1)?.getBoundingClientRect().bottom ?? 0) - body.getBoundingClientRect().bottom;
    left(Math.max(0, Math.ceil((below - 1) / LINE)));
  };
  const passed = (end: Element): void => {
    look();
    if (timers.has(end)) {
      missing.delete(end);
      if (missing.size === 0) {
        seen();
      }
    }
  };
  const lookSoon = (): void => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(look);
  };

  const { signal } = stop;
  // At once: what goes out of sight within a frame was not there.
  body.addEventListener("scroll", look, { signal, passive: true });
  window.addEventListener("blur", look, { signal });
  window.addEventListener("focus", look, { signal });
  document.addEventListener("visibilitychange", look, { signal });
  // A sheet takes and gives the focus.
  document.addEventListener("focusin", lookSoon, { signal });
  const sizes = new ResizeObserver(look);
  [body, asked, ...body.children].forEach((element) => {
    sizes.observe(element);
  });
  look();
  return () => {
    stop.abort();
    sizes.disconnect();
    cancelAnimationFrame(frame);
    timers.forEach((timer) => {
      clearTimeout(timer);
    });
  };
}
