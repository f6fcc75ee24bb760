/**
 * The page's first script. It takes a pairing code out of the address before anything else runs, looks whether this
 * browser can do what the app needs, and only then loads the app.
 */
import { missingIn } from "./browser";
import { takeFragment } from "./pairing/fragment";
import { showObstacle } from "./obstacle";
import type { Kept } from "./store/kept";

const code = takeFragment(window);

async function begin(): Promise<void> {
  const missing = await missingIn(window);
  if (missing === null) {
    if (code !== null || window.location.hash.length > 1) {
      // Who is led to a place needs all of the app, which says itself what did not come.
      import("./views/placed").catch(() => undefined);
    }
    const [{ run }, kept] = await loaded();
    run(code, kept);
  } else {
    showObstacle(document, missing, code !== null);
  }
}

/** The app, and what this browser keeps. Where one of them does not come, a person hears so. */
async function loaded(): Promise<[typeof import("./app"), Kept]> {
  try {
    return await Promise.all([import("./app"), keeps()]);
  } catch (error) {
    showObstacle(document, "unloaded", code !== null);
    throw error;
  }
}

/** What is kept is opened while the app is still on its way. */
async function keeps(): Promise<Kept> {
  const { openKept } = await import("./store/kept");
  return openKept();
}

void begin();
