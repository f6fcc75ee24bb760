/** What a person typed, character by character. */

/** Upper case of ASCII letters only: other alphabets have letters whose upper case is ASCII. */
export function asciiUpper(text: string): string {
  return text.replace(/[a-z]/g, (letter) => letter.toUpperCase());
}

/** Soft hyphen, spaces without width, marks of direction, joiners and the byte order mark. */
const INVISIBLE = "\\u00ad\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u2069\\ufeff";
/** Hyphens, dashes and the minus sign, as keyboards and chat programs put them for one another. */
const DASHES = "\\-\\u2010-\\u2015\\u2212\\ufe58\\ufe63\\uff0d";
const COPIED = new RegExp(`[\\p{White_Space}${INVISIBLE}]`, "gu");
const TYPED = new RegExp(`[\\p{White_Space}${INVISIBLE}${DASHES}]`, "gu");
/** From a full-width form to the ASCII character that it is the form of. */
const WIDE = 0xfee0;

/**
 * The characters of `text` that are meant: without white space, dashes of any kind and what nobody can see, and with
 * full-width letters and digits as the ASCII ones that they are. For codes and digits, in which nothing else has a meaning.
 */
export function typedCharacters(text: string): string[] {
  const narrow = (wide: string): string => String.fromCharCode(wide.charCodeAt(0) - WIDE);
  return Array.from(text.replace(TYPED, "").replace(/[\uff01-\uff5e]/g, narrow));
}

/** An address as it was before it was copied: without white space, line breaks among it, and what nobody can see. */
export function copiedText(text: string): string {
  return text.replace(COPIED, "");
}
