/** What takes the place of a row that may have a prompt under way, perhaps from another tab. */
import type { SentRow } from "./schema";
import type { Write } from "./unfinished";

interface Row {
  readonly sent: SentRow | null;
}

/** `row`, unless a prompt is under way: that stays. */
function kept<R extends Row>(before: R | null, row: R): R {
  return before?.sent ? before : row;
}

/** `row`, if what is there is the prompt with this id, and first sent into this journal where one is named. */
function settled<R extends Row>(
  before: R | null,
  { id, journal }: Pick<SentRow, "id"> & Partial<SentRow>,
  row: R,
): R | null {
  const isIt = before?.sent?.id === id && (journal === undefined || before.sent.journal === journal);
  return isIt ? row : before;
}

/** What is there once this is written. */
export function written<R extends Row>(before: R | null, { row, settles }: Write<R>): R | null {
  return settles === null ? kept(before, row) : settled(before, settles, row);
}
