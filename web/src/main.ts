/**
 * The page's first script. It takes a pairing code out of the address before anything else runs, looks whether this
 * browser can do what the app needs, and only then loads the app.
 */
import { missingIn } from "./browser";
import { takeFragment } from "./pairing/fragment";
import { showObstacle } from "./obstacle";

const code = takeFragment(window);

async function begin(): Promise<void> {
  const missing = await missingIn(window);
  if (missing === null) {
    const { run } = await import("./app");
    run(code);
  } else {
    showObstacle(document, missing, code !== null);
  }
}

void begin();
