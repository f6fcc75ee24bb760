/** What a person typed, character by character. */

/** Upper case of ASCII letters only: other alphabets have letters whose upper case is ASCII. */
export function asciiUpper(text: string): string {
  return text.replace(/[a-z]/g, (letter) => letter.toUpperCase());
}

/** The characters of `text` without dashes and spaces. */
export function typedCharacters(text: string): string[] {
  return Array.from(text).filter((c) => !/^[-\p{White_Space}]$/u.test(c));
}
