/** The browser's events, as far as a link depends on them. */
import { expect, test } from "vitest";
import { type PageEvent, browserPage } from "../../src/link/page";

class TestDocument extends EventTarget {
  visibilityState: DocumentVisibilityState = "visible";
}

class TestConnection extends EventTarget {
  type = "wifi";
}

class TestWindow extends EventTarget {
  readonly document = new TestDocument();
  readonly connection = new TestConnection();
  readonly navigator = { onLine: true, connection: this.connection };
}

test("a page tells what happened to it and its network, until nobody listens", () => {
  const window = new TestWindow();
  const page = browserPage(window);
  const heard: PageEvent[] = [];
  const unlisten = page.listen((event) => heard.push(event));
  const shown = (persisted: boolean): Event => Object.assign(new Event("pageshow"), { persisted });
  const all = (): void => {
    window.navigator.onLine = false;
    window.dispatchEvent(new Event("offline"));
    window.navigator.onLine = true;
    window.dispatchEvent(new Event("online"));
    window.document.visibilityState = "hidden";
    window.document.dispatchEvent(new Event("visibilitychange"));
    window.document.visibilityState = "visible";
    window.document.dispatchEvent(new Event("visibilitychange"));
    // One that is loaded for the first time comes out of no cache.
    window.dispatchEvent(shown(false));
    window.dispatchEvent(shown(true));
    // A new estimate of the speed is no new network.
    window.connection.dispatchEvent(new Event("change"));
    window.connection.type = window.connection.type === "wifi" ? "cellular" : "wifi";
    window.connection.dispatchEvent(new Event("change"));
  };
  all();
  expect(heard).toEqual(["offline", "online", "hidden", "visible", "shown", "network"]);
  expect([page.visible, page.online]).toEqual([true, true]);
  unlisten();
  all();
  expect(heard).toHaveLength(6);
});

test("a browser that does not know its network tells the rest", () => {
  const window = Object.assign(new EventTarget(), { document: new TestDocument(), navigator: { onLine: false } });
  const page = browserPage(window);
  const heard: PageEvent[] = [];
  page.listen((event) => heard.push(event));
  window.dispatchEvent(new Event("online"));
  expect([heard, page.online]).toEqual([["online"], false]);
});
