/** From one changed file of a thread to the next, and back. */
import { tick } from "svelte";

/** Files that are too far to be laid out (`Stretch.svelte`). */
const AWAY = "[data-away=files]";
/** What a step leads to: a file, a row that opens to some, or where some are to be laid out. */
const STOPS = `.file > .fhead, .ask .fhead, .item--files:not([open]) > .item__head, ${AWAY}`;
/** So many frames after it came near, it is laid out, or something else is wrong. */
const FRAMES = 60;

/** As the two edges of a line that is where it should be may differ, in pixels. */
const NEAR = 2;

/** Goes to the next file in what scrolls, or to the one before, opens it, and gives it the focus; from where the reader is. */
export async function stepFile(body: HTMLElement, by: 1 | -1): Promise<void> {
  const stops = [...body.querySelectorAll<HTMLElement>(STOPS)];
  const stop = stops[from(body, stops, by)];
  if (stop?.matches(AWAY) === true) {
    stop.scrollIntoView({ block: by > 0 ? "start" : "end" });
    if (await isLaidOut(stop)) {
      await stepFile(body, by);
    }
    return;
  }
  const row = stop?.closest<HTMLDetailsElement>(".item--files:not([open])");
  if (row) {
    row.open = true;
    await opened(row);
    const inside = [...row.querySelectorAll<HTMLElement>(".file > .fhead")];
    await show(by > 0 ? inside[0] : inside.at(-1));
  } else {
    await show(stop);
  }
}

/** Which of them comes next. */
function from(body: HTMLElement, stops: readonly HTMLElement[], by: 1 | -1): number {
  const at = stops.findIndex((stop) => stop === document.activeElement || holds(stop));
  if (at >= 0) {
    return at + by;
  }
  const { top } = body.getBoundingClientRect();
  const tops = stops.map((stop) => stop.getBoundingClientRect().top - top);
  return by > 0 ? tops.findIndex((each) => each > NEAR) : tops.filter((each) => each < -NEAR).length - 1;
}

/** Whether what has the focus is in the file. */
function holds(stop: HTMLElement): boolean {
  return stop.closest(".file, .item--files")?.contains(document.activeElement) === true;
}

async function show(head: HTMLElement | undefined): Promise<void> {
  if (head === undefined) {
    return;
  }
  const file = head.closest<HTMLDetailsElement>(".file");
  if (file !== null && !file.open) {
    file.open = true;
    await opened(file);
  }
  head.focus({ preventScroll: true });
  head.scrollIntoView({ block: "start" });
}

async function isLaidOut(stretch: HTMLElement): Promise<boolean> {
  for (let frame = 0; frame < FRAMES && stretch.matches(AWAY); frame += 1) {
    await new Promise(requestAnimationFrame);
  }
  return !stretch.matches(AWAY);
}

/** What it opens to is there once it was told. */
async function opened(details: HTMLDetailsElement): Promise<void> {
  await new Promise((resolve) => {
    details.addEventListener("toggle", resolve, { once: true });
  });
  await tick();
}
