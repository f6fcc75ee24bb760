/** What takes the place of a row that may have a prompt under way, perhaps from another tab. */
import type { SentRow } from "./schema";

interface Row {
  readonly sent: SentRow | null;
}

/** `row`, unless a prompt is under way: that stays. */
export function kept<R extends Row>(before: R | null, row: R): R {
  return before?.sent ? before : row;
}

/** `row`, if what is there is the prompt with this id, and first sent into this journal where one is named. */
export function settled<R extends Row>(
  before: R | null,
  { id, journal }: Pick<SentRow, "id"> & Partial<SentRow>,
  row: R,
): R | null {
  const isIt = before?.sent?.id === id && (journal === undefined || before.sent.journal === journal);
  return isIt ? row : before;
}
