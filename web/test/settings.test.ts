/** The theme that a person chose, and what the settings say. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { VERSION } from "../src/build";
import { usageOf } from "../src/store/usage";
import { THEMES, type ThemeWindow, keepTheme, keptTheme, showTheme } from "../src/theme";
import { sizeWords, usageWords } from "../src/views/settingswords";

class Shelf {
  readonly #kept = new Map<string, string>();
  full = false;

  getItem(key: string): string | null {
    return this.#kept.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    if (this.full) {
      throw new DOMException("no room", "QuotaExceededError");
    }
    this.#kept.set(key, value);
  }

  removeItem(key: string): void {
    this.#kept.delete(key);
  }
}

test("a theme that was chosen is kept, the system's own is not, and what is no theme is the system's", () => {
  const window = { localStorage: new Shelf() };
  expect(keptTheme(window)).toBe("system");
  for (const theme of THEMES) {
    expect(keepTheme(window, theme)).toBe(true);
    expect(keptTheme(window)).toBe(theme);
  }
  keepTheme(window, "system");
  window.localStorage.setItem("reachback-theme", "constructor");
  expect(keptTheme(window)).toBe("system");
});

test("a browser that keeps nothing has the system's theme, and says so", () => {
  const window = { localStorage: new Shelf() };
  window.localStorage.full = true;
  expect([keepTheme(window, "dark"), keptTheme(window)]).toEqual([false, "system"]);
  const closed: Pick<ThemeWindow, "localStorage"> = {
    get localStorage(): never {
      throw new DOMException("no", "SecurityError");
    },
  };
  expect([keptTheme(closed), keepTheme(closed, "dark")]).toEqual(["system", false]);
});

test("the page and what is around it look as was chosen", () => {
  const metas = ["light", "dark"].map((theme) => ({
    media: "",
    getAttribute: (name: string) => (name === "data-theme" ? theme : null),
    setAttribute(name: string, value: string): void {
      this.media = `${name}: ${value}`;
    },
  }));
  const root: { dataset: Record<string, string> } = { dataset: {} };
  const shown = (theme: (typeof THEMES)[number]): unknown => {
    showTheme({ document: { documentElement: root, querySelectorAll: () => metas } }, theme);
    return [root.dataset.theme, ...metas.map(({ media }) => media)];
  };
  expect(shown("dark")).toEqual(["dark", "media: not all", "media: all"]);
  expect(shown("light")).toEqual(["light", "media: all", "media: not all"]);
  const system = ["light", "dark"].map((theme) => `media: (prefers-color-scheme: ${theme})`);
  expect(shown("system")).toEqual([undefined, ...system]);
});

test("the page's own colours around it are those of the themes", () => {
  const html = readFileSync("index.html", "utf8");
  const tokens = readFileSync("src/style/tokens.css", "utf8");
  const metas = [...html.matchAll(/<meta\s+name="theme-color"[^>]*>/g)].map(([meta]) => meta);
  const [light, dark] = metas.map((meta) => /content="([^"]+)"/.exec(meta)?.[1]);
  expect(metas.map((meta) => /data-theme="([^"]+)"/.exec(meta)?.[1])).toEqual(["light", "dark"]);
  expect(/^:root \{[^}]*--bg: (#[0-9a-f]+)/.exec(tokens.replace(/^\/\*[^]*?\*\/\s*/, ""))?.[1]).toBe(light);
  expect(/:root\[data-theme="dark"\] \{[^}]*--bg: (#[0-9a-f]+)/.exec(tokens)?.[1]).toBe(dark);
});

test("how much is kept is said as far as the browser says it", async () => {
  expect(await usageOf(undefined)).toEqual({ bytes: null, firm: null });
  const storage = { estimate: () => Promise.resolve({ usage: 12_345 }), persisted: () => Promise.resolve(true) };
  expect(await usageOf(storage)).toEqual({ bytes: 12_345, firm: true });
  const refuses = { estimate: () => Promise.reject(new TypeError("no")), persisted: () => Promise.resolve(false) };
  expect(await usageOf(refuses)).toEqual({ bytes: null, firm: false });
  expect([0, 999, 12_345, 1_200_000, 3e10].map(sizeWords)).toEqual([
    "0 bytes",
    "999 bytes",
    "12 kB",
    "1.2 MB",
    "30 GB",
  ]);
  expect(usageWords({ bytes: 12_345, firm: false }).title).toBe("12 kB kept in this browser");
  expect(usageWords({ bytes: null, firm: true }).title).toBe("Kept in this browser");
});

test("the app's version is that of the programs", () => {
  const cargo = readFileSync("../Cargo.toml", "utf8");
  expect(VERSION).toBe(/\[workspace\.package\]\s+version = "([^"]+)"/.exec(cargo)?.[1]);
});
