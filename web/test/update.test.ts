/** When a new version of the app takes over, with a worker and a page that are the test's. */
import { beforeEach, expect, test, vi } from "vitest";
import { type TrustedTypes, Update, type UpdateSetup, scriptUrl } from "../src/update";
import { TestPage } from "./link/page";

class Worker extends EventTarget {
  readonly postMessage = vi.fn();
}

class Registration extends EventTarget {
  installing: Worker | null = null;
  waiting: Worker | null = null;
  readonly update = vi.fn(() => Promise.reject(new TypeError("no network")));

  /** A new version is found, and after that ready. */
  find(): Worker {
    const found = new Worker();
    this.installing = found;
    this.dispatchEvent(new Event("updatefound"));
    [this.installing, this.waiting] = [null, found];
    found.dispatchEvent(new Event("statechange"));
    return found;
  }
}

let registration: Registration;
let container: EventTarget;
let page: TestPage;
let touched: EventTarget;
let kept: Map<string, string>;
let isBusy: boolean;
const reload = vi.fn();

beforeEach(() => {
  vi.useFakeTimers({ now: 1_800_000_000_000, toFake: ["Date"] });
  reload.mockClear();
  [registration, container, touched] = [new Registration(), new EventTarget(), new EventTarget()];
  [page, kept, isBusy] = [new TestPage(), new Map<string, string>(), false];
  return () => {
    vi.useRealTimers();
  };
});

function start(): void {
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  };
  const setup: UpdateSetup = { registration, container, page, touched, storage, isBusy: () => isBusy, reload };
  new Update(setup).start();
}

function takesOver(): void {
  registration.waiting = null;
  container.dispatchEvent(new Event("controllerchange"));
}

test("a version that is ready when the page is loaded takes over, and the page begins anew", () => {
  const waiting = new Worker();
  registration.waiting = waiting;
  start();
  expect(waiting.postMessage).toHaveBeenCalledOnce();
  expect(reload).not.toHaveBeenCalled();
  takesOver();
  expect(reload).toHaveBeenCalledOnce();
});

test("one that is found while nothing was touched yet takes over", () => {
  start();
  expect(registration.find().postMessage).toHaveBeenCalledOnce();
});

test.each(["pointerdown", "keydown", "wheel"])("after a %s it waits until the page is shown again", (type) => {
  start();
  touched.dispatchEvent(new Event(type));
  const found = registration.find();
  page.hide();
  expect(found.postMessage).not.toHaveBeenCalled();
  page.show();
  expect(found.postMessage).toHaveBeenCalledOnce();
  takesOver();
  expect(reload).toHaveBeenCalledOnce();
});

test("while something is typed or held it waits, also for a page that is shown again", () => {
  isBusy = true;
  start();
  const found = registration.find();
  page.hide();
  page.show();
  expect(found.postMessage).not.toHaveBeenCalled();
  isBusy = false;
  page.hide();
  page.show();
  expect(found.postMessage).toHaveBeenCalledOnce();
});

test("what is begun while it takes over is not lost", () => {
  start();
  registration.find();
  isBusy = true;
  takesOver();
  expect(reload).not.toHaveBeenCalled();
  isBusy = false;
  page.hide();
  page.show();
  expect(reload).toHaveBeenCalledOnce();
});

test("a page that is shown looks for a new version", () => {
  start();
  expect(registration.update).not.toHaveBeenCalled();
  page.hide();
  expect(registration.update).not.toHaveBeenCalled();
  page.show();
  expect(registration.update).toHaveBeenCalledOnce();
});

test("versions that take turns do not have the page begin anew without end", () => {
  start();
  registration.find();
  takesOver();
  expect(reload).toHaveBeenCalledOnce();
  // The page that is loaded then.
  [registration, container, page] = [new Registration(), new EventTarget(), new TestPage()];
  start();
  const found = registration.find();
  expect(found.postMessage).not.toHaveBeenCalled();
  vi.setSystemTime(Date.now() + 600_000);
  page.hide();
  page.show();
  expect(found.postMessage).toHaveBeenCalledOnce();
});

test("the policy lets the worker's script through and nothing else", () => {
  let rule: ((url: string) => string) | null = null;
  const types: TrustedTypes = {
    createPolicy: (name, { createScriptURL }) => {
      expect(name).toBe("reachback-worker");
      rule = createScriptURL;
      return { createScriptURL: (url) => ({ trusted: createScriptURL(url) }) };
    },
  };
  expect(scriptUrl(types)).toEqual({ trusted: "/sw.js" });
  for (const url of [
    "",
    "/",
    "sw.js",
    "//sw.js",
    "/sw.js?x",
    "/sw.js#x",
    "/assets/a.js",
    "https://other.example/sw.js",
    "data:,",
  ]) {
    expect(() => rule?.(url), url).toThrow(TypeError);
  }
  expect(scriptUrl(undefined)).toBe("/sw.js");
});
