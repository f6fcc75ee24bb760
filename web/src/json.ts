/** Values of which nobody has said what they are, taken apart. */

/** An object of JSON. */
export type Json = Readonly<Record<string, unknown>>;

/** Whether it is an object, and no array. */
export function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object that it is, or one without members. */
export function json(value: unknown): Json {
  return isJson(value) ? value : {};
}

/** The text that it is, or none. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** What is in the array that it is, or nothing. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
