import { expect, test } from "vitest";
import { Later, PartError } from "../src/later";

test("a part that is there is given at once, and is loaded once", async () => {
  let loads = 0;
  const later = new Later(async () => {
    loads += 1;
    return Promise.resolve({ page: loads });
  });
  const first = later.get();
  expect(first).toBeInstanceOf(Promise);
  expect(await first).toEqual({ page: 1 });
  expect(later.get()).toEqual({ page: 1 });
  later.prepare();
  expect(loads).toBe(1);
});

test("a part that did not come is asked for again", async () => {
  let loads = 0;
  const later = new Later(async () => {
    loads += 1;
    return loads < 3 ? Promise.reject(new Error("no network")) : Promise.resolve("a page");
  });
  later.prepare();
  const error: unknown = await Promise.resolve(later.get()).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(PartError);
  expect(error).toHaveProperty("cause.message", "no network");
  expect(await later.get()).toBe("a page");
});
