/**
 * Light or dark: as the system has it, unless a person chose. The choice is kept beside the database, where it can be
 * read before any screen is shown. Not before the app is there: the page's first script, which has seen the code in the
 * address, keeps and reads nothing.
 */

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const KEY = "reachback-theme";

/** What is needed of a browser's window. */
export interface ThemeWindow {
  readonly document: {
    readonly documentElement: Pick<HTMLElement, "dataset">;
    querySelectorAll(selector: string): Iterable<Pick<Element, "getAttribute" | "setAttribute">>;
  };
  readonly localStorage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
}

/** What was chosen. */
export function keptTheme(window: Pick<ThemeWindow, "localStorage">): Theme {
  try {
    const kept = window.localStorage.getItem(KEY);
    return THEMES.find((theme) => theme === kept) ?? "system";
  } catch {
    // A browser that keeps nothing for this page.
    return "system";
  }
}

/** Keeps what was chosen; gives whether it is kept. */
export function keepTheme(window: Pick<ThemeWindow, "localStorage">, theme: Theme): boolean {
  try {
    if (theme === "system") {
      window.localStorage.removeItem(KEY);
    } else {
      window.localStorage.setItem(KEY, theme);
    }
    return true;
  } catch {
    return false;
  }
}

/** Has the page look like that, and what the browser shows around it. */
export function showTheme({ document }: Pick<ThemeWindow, "document">, theme: Theme): void {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
  for (const meta of document.querySelectorAll("meta[name=theme-color][data-theme]")) {
    const own = meta.getAttribute("data-theme") ?? "";
    const media = theme === "system" ? `(prefers-color-scheme: ${own})` : theme === own ? "all" : "not all";
    meta.setAttribute("media", media);
  }
}
