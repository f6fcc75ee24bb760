/** Characters that are written by their names. */

const NAMED: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  copy: "©",
  deg: "°",
  times: "×",
  middot: "·",
  ndash: "–",
  mdash: "—",
  hellip: "…",
  larr: "←",
  rarr: "→",
  le: "≤",
  ge: "≥",
  ne: "≠",
};

/** What an entity such as `&amp;` or `&#x26;` stands for. One that is not known is the text that it is. */
export function entityText(entity: string): string {
  const number = /^&#(?:x([0-9a-f]+)|([0-9]+));$/i.exec(entity);
  if (number !== null) {
    const point = number[1] === undefined ? Number(number[2]) : Number.parseInt(number[1], 16);
    const isLetter = point > 0 && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    return isLetter ? String.fromCodePoint(point) : "\ufffd";
  }
  const name = entity.slice(1, -1);
  return Object.hasOwn(NAMED, name) ? (NAMED[name] ?? entity) : entity;
}
