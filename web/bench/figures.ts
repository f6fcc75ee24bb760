/** What is measured of the app, and what becomes of it for a person and for a program. */

/** One thing that was measured, in rounds. */
export interface Figure {
  readonly figure: string;
  readonly unit: Unit;
  /** What counts: of times and bytes the median of the rounds. */
  readonly value: number;
  /** The most that it is meant to be; `null` where it only helps to read another one. */
  readonly goal: number | null;
  /** Of each round, in their order. */
  readonly rounds: readonly number[];
}

/** `share`: of a whole, 0 to 1; `MB` and `kB`: 1,000,000 and 1,000 bytes. */
export type Unit = "share" | "ms" | "kB" | "MB" | "nodes";

/** Whether it is what it is meant to be; `null` where nothing is meant. */
export function isMet({ value, goal }: Figure): boolean | null {
  return goal === null ? null : value <= goal;
}

/** The middle one; between two, their mean. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]];
  if (low === undefined || high === undefined) {
    throw new Error("nothing was measured that could have a middle");
  }
  return (low + high) / 2;
}

/** By how much each is more than the one before, as the line says that lies nearest to all of them. */
export function slope(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = sum(values) / values.length;
  const across = sum(values.map((_, index) => (index - middle) ** 2));
  return across === 0 ? 0 : sum(values.map((value, index) => (index - middle) * (value - mean))) / across;
}

/** Frames of a page for some time. */
export interface Frames {
  /** As many as the screen could have shown. */
  readonly expected: number;
  readonly dropped: number;
  /** The longest that the page showed the same, in milliseconds. */
  readonly longest: number;
}

/**
 * What the beginnings of a page's frames say, in milliseconds, on a screen that shows a new one each `interval` of them:
 * who begins two intervals after the one before has dropped one.
 */
export function framesOf(begun: readonly number[], interval: number): Frames {
  const apart = begun.slice(1).map((at, index) => at - (begun[index] ?? at));
  const expected = apart.map((time) => Math.max(1, Math.round(time / interval)));
  return { expected: sum(expected), dropped: sum(expected) - apart.length, longest: Math.max(0, ...apart) };
}

/** All of them together, as a share: how many of those that the screen could have shown were dropped. */
export function droppedOf(all: readonly Frames[]): number {
  const expected = sum(all.map((frames) => frames.expected));
  return expected === 0 ? 0 : sum(all.map(({ dropped }) => dropped)) / expected;
}

/** A line of JSON for each. */
export function linesOf(figures: readonly Figure[]): readonly string[] {
  return figures.map((figure) => JSON.stringify({ ...figure, met: isMet(figure) }));
}

/** A table in Markdown. */
export function tableOf(figures: readonly Figure[]): readonly string[] {
  const rows = figures.map((figure) => {
    const { figure: name, unit, value, goal, rounds } = figure;
    const [least, most] = [Math.min(...rounds), Math.max(...rounds)];
    const spread = rounds.length > 1 ? ` (${shown(least, unit)} to ${shown(most, unit)})` : "";
    const met = isMet(figure);
    const verdict = met === null ? "–" : met ? "yes" : "**no**";
    return `| ${name} | ${shown(value, unit)}${spread} | ${goal === null ? "–" : `≤ ${shown(goal, unit)}`} | ${verdict} |`;
  });
  return ["| | measured (least and most of a round) | goal | met |", "|---|---:|---:|---|", ...rows];
}

/** A number as a person reads it, with its unit. */
function shown(value: number, unit: Unit): string {
  const digits = { share: 1, ms: 0, kB: 1, MB: 2, nodes: 0 }[unit];
  const number = (unit === "share" ? value * 100 : value).toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return unit === "share" ? `${number} %` : `${number} ${unit}`;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
