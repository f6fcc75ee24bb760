/** Protocol versions, and choosing one. */

/** The versions that a peer offers, both ends included. */
export interface VersionRange {
  readonly min: number;
  readonly max: number;
}

/** What this build speaks, with the relay and end to end. */
export const SUPPORTED: VersionRange = { min: 1, max: 1 };

/** The newest version that both sides speak; `null` where there is none. */
export function agree(ours: VersionRange, theirs: VersionRange): number | null {
  const newest = Math.min(ours.max, theirs.max);
  return newest >= ours.min && newest >= theirs.min && newest > 0 ? newest : null;
}
