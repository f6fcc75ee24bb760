import { expect, test } from "vitest";
import { isComputer, isTabOfIphone, missingIn } from "../src/browser";

test("this browser has everything", async () => {
  expect(await missingIn({ isSecureContext: true, crypto })).toBeNull();
});

test("a page over plain http is told so first", async () => {
  expect(await missingIn({ isSecureContext: false, crypto })).toBe("insecure");
  expect(await missingIn({ isSecureContext: false })).toBe("insecure");
});

test("a browser without the cryptography is old", async () => {
  const subtle = { generateKey: () => Promise.reject(new DOMException("no", "NotSupportedError")) };
  expect(await missingIn({ isSecureContext: true, crypto: { subtle } })).toBe("old");
  expect(await missingIn({ isSecureContext: true, crypto: {} })).toBe("old");
  expect(await missingIn({ isSecureContext: true })).toBe("old");
});

test("a computer is told from a phone by its mouse", () => {
  const asked: string[] = [];
  const window = (matches: boolean): Parameters<typeof isComputer>[0] => ({
    matchMedia: (media) => {
      asked.push(media);
      return { matches };
    },
  });
  expect([isComputer(window(true)), isComputer(window(false))]).toEqual([true, false]);
  expect(new Set(asked)).toEqual(new Set(["(hover: hover) and (pointer: fine)"]));
});

test("a tab of an iPhone's Safari is told from its Home Screen, its other browsers, and other devices", () => {
  const head = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
  const safari = `${head} Version/18.5 Mobile/15E148 Safari/604.1`;
  expect(isTabOfIphone({ userAgent: safari, standalone: false })).toBe(true);
  expect(isTabOfIphone({ userAgent: safari, standalone: true })).toBe(false);
  // A browser that only calls itself so has no such member.
  expect(isTabOfIphone({ userAgent: safari })).toBe(false);
  for (const userAgent of [
    `${head} CriOS/138.0.7204.53 Mobile/15E148 Safari/604.1`,
    `${head} FxiOS/140.0 Mobile/15E148 Safari/605.1.15`,
    `${head} Version/18.0 EdgiOS/138.0.3351.65 Mobile/15E148 Safari/604.1`,
    `${head} Version/18.5 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15`,
    `${head} Mobile/15E148`,
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
  ]) {
    expect(isTabOfIphone({ userAgent, standalone: false }), userAgent).toBe(false);
  }
});
