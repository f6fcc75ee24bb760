/** A picture that somebody wants to see large. */
import type { Picture } from "../attach/picture";

export interface Enlarged {
  readonly picture: Picture;
  /** What it is called. */
  readonly label: string;
}

/** Has one shown large. */
export type Enlarge = (picture: Enlarged) => void;
