/**
 * Codes that a person types: 16 characters of Crockford's base32, 80 bits.
 *
 * Its alphabet has no I, L, O and U: the first three are read as the digits they look like, the last is never written.
 */
import { asciiUpper, typedCharacters } from "./text";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH = 16;

/** Why text is not a typed code. */
export type CodeFault =
  { readonly kind: "character"; readonly found: string } | { readonly kind: "length"; readonly found: number };

/** Text is not a typed code. */
export class CodeError extends Error {
  override readonly name = "CodeError";
  readonly fault: CodeFault;

  constructor(fault: CodeFault) {
    super(
      fault.kind === "character"
        ? `${JSON.stringify(fault.found)} is in no code: type the ${LENGTH} letters and digits that the host shows`
        : `a code has ${LENGTH} letters and digits, this has ${fault.found}: type all that the host shows`,
    );
    this.fault = fault;
  }
}

/** A code that a person types, in its one spelling. It is a secret: nothing prints it by itself. */
export class TypedCode {
  readonly #text: string;

  private constructor(text: string) {
    this.#text = text;
  }

  /** What a person typed: dashes, spaces and case don't matter. Throws {@link CodeError}. */
  static parse(text: string): TypedCode {
    const code = typedCharacters(text).map((found) => {
      const letter = asciiUpper(found).replace(/[IL]/, "1").replace("O", "0");
      if (!ALPHABET.includes(letter)) {
        throw new CodeError({ kind: "character", found });
      }
      return letter;
    });
    if (code.length !== LENGTH) {
      throw new CodeError({ kind: "length", found: code.length });
    }
    return new TypedCode(code.join(""));
  }

  /** `XXXX-XXXX-XXXX-XXXX`, for the person who types it; never for a log. */
  expose(): string {
    return this.#text.replace(/(.{4})(?=.)/g, "$1-");
  }

  /** The characters alone, as they enter the key derivation. */
  text(): string {
    return this.#text;
  }
}
