import { expect, test } from "vitest";
import { wideOf } from "../../src/state/wide";

test("it is wide as long as the window is", () => {
  const asked: string[] = [];
  const hears: ((event: { readonly matches: boolean }) => void)[] = [];
  const wide = wideOf({
    matchMedia: (media) => {
      asked.push(media);
      return { matches: false, addEventListener: (_, heard) => hears.push(heard) };
    },
  });
  expect([wide.value, asked]).toEqual([false, ["(min-width: 56rem)"]]);
  hears.forEach((heard) => {
    heard({ matches: true });
  });
  expect(wide.value).toBe(true);
});
