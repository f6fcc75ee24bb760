import { expect, test } from "vitest";
import { missingIn } from "../src/browser";

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
