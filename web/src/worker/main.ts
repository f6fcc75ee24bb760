/** The service worker: has the app open without network. What it keeps, and what it answers from that, is in `shell.ts`. */
import { type Build, Shell } from "./shell";

declare const self: ServiceWorkerGlobalScope;
/** Written in front of this code when it is built. */
declare const REACHBACK_BUILD: Build;

const shell = new Shell({
  build: REACHBACK_BUILD,
  origin: self.location.origin,
  caches: self.caches,
  fetch: (request, init) => self.fetch(request, init),
});

/** How often it is looked whether the page that asks is alone, and how far apart, in milliseconds. */
const [LOOKS, APART] = [20, 100];
/** How long a page may take to load what is kept, in milliseconds. */
const LOADED = 10_000;

/** Takes over from an older worker, unless that would put a newer build under a page besides the one that asks. */
async function takeOver(): Promise<void> {
  for (let look = 0; look < LOOKS; look += 1) {
    const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
    if (pages.length <= 1) {
      await self.skipWaiting();
      return;
    }
    // One that was just closed is still there for a moment.
    await new Promise((passed) => setTimeout(passed, APART));
  }
}

/**
 * Removes what only pages of earlier builds needed, looks at what the server has, and gives up where this worker would be
 * in the way for ever. A page that asks for a worker can bring it back; without what it kept, it lets all pages through.
 */
async function look(): Promise<void> {
  await shell.tidy();
  if (!(await shell.look())) {
    await self.registration.unregister();
    // The page that is on its way needs its files.
    await new Promise((passed) => setTimeout(passed, LOADED));
    await shell.leave();
  }
}

self.addEventListener("install", (event) => {
  event.waitUntil(shell.install());
});

self.addEventListener("message", (event) => {
  // Pages have one thing to say: nothing is typed there, and nothing held.
  event.waitUntil(takeOver());
});

self.addEventListener("fetch", (event) => {
  const path = shell.pathOf(event.request);
  if (path !== null) {
    event.respondWith(shell.answer(path, event.request));
    if (event.request.mode === "navigate") {
      event.waitUntil(look());
    }
  }
});
