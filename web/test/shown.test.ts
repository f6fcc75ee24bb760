import { expect, test } from "vitest";
import vectors from "../../proto/vectors/shown.json";
import { shownDigest } from "../src/shown";
import { hex } from "./support";

test.each(vectors.digests)("the digest of $shown is the one of the vectors", async ({ shown, digest }) => {
  expect(hex(await shownDigest(shown))).toBe(digest);
});
