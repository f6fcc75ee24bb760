/** What the settings say. */
import type { Usage } from "../store/usage";
import type { Theme } from "../theme";

export const THEME_WORDS: Readonly<Record<Theme, string>> = { system: "System", light: "Light", dark: "Dark" };

/** How much is kept, and for how long. */
export function usageWords({ bytes, firm }: Usage): { readonly title: string; readonly sub: string } {
  const title = bytes === null ? "Kept in this browser" : `${sizeWords(bytes)} kept in this browser`;
  if (firm === null) {
    return { title, sub: "Hosts, keys and drafts. The browser does not say for how long." };
  }
  return {
    title,
    sub: firm
      ? "Hosts, keys and drafts, until they are removed here or with this site's data."
      : "Hosts, keys and drafts. The browser may drop them when it runs short of room: you would have to pair again.",
  };
}

/** Bytes, as people count them. */
export function sizeWords(bytes: number): string {
  for (const [unit, size] of [["GB", 1e9] as const, ["MB", 1e6] as const, ["kB", 1e3] as const]) {
    if (bytes >= size) {
      const count = bytes / size;
      return `${count < 10 ? count.toFixed(1) : count.toFixed(0)} ${unit}`;
    }
  }
  return `${bytes} bytes`;
}
