/** Folders that are looked through: a host that answers by hand, and a browser's history in memory. */
import { beforeEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { FolderInfo } from "../../src/api/types";
import { type Bytes, utf8 } from "../../src/bytes";
import { json, text } from "../../src/json";
import { Folders } from "../../src/state/folders";
import { type Historied, Layers } from "../../src/state/layers";
import { folderFault, shellWord, whereWords } from "../../src/views/folderwords";
import { folderWords } from "../../src/views/startwords";

const HOME = info("/home/me", { opens: false });
const SHOP = info("/srv/shop", { isWorkspace: true });
const NOTES = info("/home/me/notes");

function info(path: string, more: Partial<FolderInfo> = {}): FolderInfo {
  return { name: path.split("/").at(-1) ?? "", path, isWorkspace: false, opens: true, ...more };
}

/** A host with these folders; what is not there is missing. */
class Host {
  /** What is in a folder, by its path; nothing for where one begins. */
  readonly inside = new Map<string, readonly FolderInfo[]>();
  readonly asked: string[] = [];
  /** What was asked and not answered, while the host is slow. */
  isSlow = false;
  readonly late: (() => void)[] = [];
  readonly folders: Folders;
  readonly api: ApiClient;

  constructor() {
    const missed = (): void => {
      this.folders.missed();
    };
    this.api = new ApiClient(
      (bytes) => {
        const answer = this.#answerTo(bytes);
        if (this.isSlow) {
          this.late.push(answer);
        } else {
          queueMicrotask(answer);
        }
      },
      { notified: () => undefined, missed },
    );
    this.folders = new Folders(this.api);
  }

  #answerTo(bytes: Bytes): () => void {
    const { id, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
    const { path, hidden } = json(params);
    this.asked.push(`${text(path)}${hidden === true ? " hidden" : ""}`);
    const data = this.inside.get(text(path));
    const error = { code: -32010, message: "gone", data: { reason: "folder", params: { why: "missing" } } };
    const answer = data === undefined ? { id, error } : { id, result: { data, more: false } };
    return () => {
      this.api.message(utf8(JSON.stringify(answer)), () => undefined);
    };
  }

  /** Where a person is: its path, what is in it, and what is wrong. */
  get shown(): readonly unknown[] {
    const { steps, at } = this.folders.view.value;
    const step = steps[at];
    return [step?.folder?.path ?? null, step?.listing?.data.map(({ name }) => name) ?? null, step?.fault?.why ?? null];
  }
}

let host: Host;

beforeEach(() => {
  host = new Host();
  host.inside.set("", [HOME, SHOP]).set("/home/me", [NOTES]).set("/home/me/notes", []);
});

test("one goes into a folder, and back, where what is there is read anew", async () => {
  host.folders.begin("local");
  await vi.waitUntil(() => host.shown[1] !== null);
  expect(host.shown).toEqual([null, ["me", "shop"], null]);
  host.folders.enter(HOME);
  expect(host.shown).toEqual(["/home/me", null, null]);
  await vi.waitUntil(() => host.shown[1] !== null);
  host.folders.enter(NOTES);
  await vi.waitUntil(() => host.shown[1] !== null);
  host.inside.set("/home/me", [NOTES, info("/home/me/new")]);
  host.folders.show(1);
  expect(host.shown).toEqual(["/home/me", ["notes"], null]);
  await vi.waitUntil(() => host.asked.length === 4);
  await vi.waitUntil(() => String(host.shown[1]) === "notes,new");
  // Forward again, as a browser can go; from here another way leads elsewhere.
  host.folders.show(2);
  expect(host.shown[0]).toBe("/home/me/notes");
  host.folders.show(1);
  host.folders.enter(info("/home/me/new"));
  expect(host.folders.view.value.steps.map(({ folder }) => folder?.name)).toEqual([undefined, "me", "new"]);
  host.folders.show(7);
  expect(host.shown[0]).toBe("/home/me/new");
});

test("where there is one place to begin, one is in it", async () => {
  host.inside.set("", [HOME]);
  host.folders.begin("local");
  await vi.waitUntil(() => host.shown[1] !== null);
  expect(host.shown).toEqual(["/home/me", ["notes"], null]);
});

test("a folder that vanished says so, and what to do; once it is back it shows", async () => {
  host.folders.begin("local");
  host.folders.enter(info("/home/me/old"));
  await vi.waitUntil(() => host.shown[2] !== null);
  expect(host.shown).toEqual(["/home/me/old", null, "missing"]);
  host.inside.set("/home/me/old", []);
  await host.folders.again();
  expect(host.shown).toEqual(["/home/me/old", [], null]);
});

test("an answer that comes when a person is elsewhere already changes nothing there", async () => {
  host.folders.begin("local");
  await vi.waitUntil(() => host.shown[1] !== null);
  host.isSlow = true;
  host.folders.enter(HOME);
  host.folders.show(0);
  host.isSlow = false;
  await host.folders.again();
  host.late.forEach((answer) => {
    answer();
  });
  await host.folders.again();
  expect(host.shown).toEqual([null, ["me", "shop"], null]);
  expect(host.folders.view.value.steps[1]?.listing).toBe(null);
});

test("what was asked when the host lost the session is asked again, and is no fault", async () => {
  host.isSlow = true;
  host.folders.begin("local");
  host.isSlow = false;
  host.api.lost();
  await vi.waitUntil(() => host.shown[1] !== null);
  expect(host.shown).toEqual([null, ["me", "shop"], null]);
});

test("hidden folders are asked for where a person wants them, and stay so further on", async () => {
  host.folders.begin("local");
  host.folders.enter(HOME);
  host.folders.setHidden(true);
  host.folders.enter(NOTES);
  await vi.waitUntil(() => host.shown[1] !== null);
  expect(host.asked).toEqual(["", "/home/me", "/home/me hidden", "/home/me/notes hidden"]);
});

test("each fault says what comes next", () => {
  const reasons = ["environment", "scope", "method", "slow", "ended", "unsent", "answer", "new to this app"];
  const faults = [
    ...["form", "outside", "state", "missing", "new to this app"].map((why) => ({ reason: "folder", why })),
    ...reasons.map((reason) => ({ reason, why: "" })),
  ];
  for (const { reason, why } of faults) {
    const fault = { reason, why, message: "the host's \u202E disk" };
    const { what, next, again } = folderFault(fault);
    expect(what).toBe("The host's [U+202E right-to-left override] disk.");
    expect(next).toMatch(/^(Go back|Close this|Try again)/);
    expect(again || !next.startsWith("Try")).toBe(true);
  }
});

test("where a link leads is said, and what a name says already is not", () => {
  expect(whereWords(NOTES, HOME)).toBe(null);
  expect(whereWords(info("/etc"), info("/"))).toBe(null);
  expect(whereWords({ ...SHOP, name: "link" }, HOME)).toBe("/srv/shop");
  expect(whereWords(SHOP, null)).toBe("/srv/shop");
});

test("a path in a command is one word, or a stand-in", () => {
  expect(shellWord("/home/me/shop")).toBe("/home/me/shop");
  expect(shellWord("/home/me/my shop; rm")).toBe("'/home/me/my shop; rm'");
  expect(shellWord("/home/me/o'neill")).toBe(String.raw`'/home/me/o'\''neill'`);
  expect(shellWord("/home/me/\u202Eshop")).toBe("FOLDER");
});

test("a thread begins in a workspace, and elsewhere where this device may and a person said so", () => {
  const isOpen = (folder: string | null, untrusted: boolean, isWorkspace: boolean, browses: boolean): boolean =>
    folderWords({ folder, untrusted }, { isWorkspace, browses, closed: null }).isOpen;
  expect(isOpen(null, false, false, true)).toBe(false);
  expect([isOpen("/shop", false, true, false), isOpen("/shop", true, true, true)]).toEqual([true, true]);
  expect([isOpen("/shop", true, false, true), isOpen("/shop", true, false, false)]).toEqual([true, false]);
  expect(isOpen("/shop", false, false, true)).toBe(false);
});

test("no thread begins in a folder of a machine that takes none, and why is said", () => {
  const draft = { folder: "/shop", untrusted: false };
  const { isOpen, says } = folderWords(draft, { isWorkspace: true, browses: true, closed: "“devbox” is off." });
  expect([isOpen, says]).toEqual([false, "“devbox” is off. Or choose another folder."]);
});

/** A window's history, which answers later, as a browser's does. */
class Entries implements Historied {
  readonly entries: unknown[] = [null];
  at = 0;
  #heard: (event: { state: unknown }) => void = () => undefined;
  readonly history = {
    state: this.entries[0],
    pushState: (state: unknown): void => {
      this.entries.splice(this.at + 1, Infinity, state);
      this.at += 1;
    },
    go: (by: number): void => {
      queueMicrotask(() => {
        this.at += by;
        this.#heard({ state: this.entries[this.at] });
      });
    },
  };

  addEventListener(_: string, heard: (event: { state: unknown }) => void): void {
    this.#heard = heard;
  }
}

test("each layer is an entry of the history, and back takes one away; a second touch never leads out", async () => {
  const window = new Entries();
  const layers = new Layers(window);
  layers.start();
  expect([layers.add(), layers.add(), layers.add()]).toEqual([true, true, true]);
  expect([layers.count.value, window.at]).toEqual([3, 3]);
  window.history.go(-1);
  await vi.waitUntil(() => layers.count.value === 2);
  layers.drop();
  layers.drop();
  expect(layers.add()).toBe(false);
  await vi.waitUntil(() => layers.count.value === 0);
  expect([window.at, layers.add()]).toEqual([0, true]);
});

test("after a reload the layers are gone, and so are their entries; what is no count is none", async () => {
  for (const [state, at] of [
    [{ layers: 2 }, 0],
    [{ layers: -1 }, 2],
    [{ layers: "2" }, 2],
    [7, 2],
  ] as const) {
    const window = new Entries();
    window.entries.push({ layers: 1 }, state);
    window.at = 2;
    window.history.state = state;
    const layers = new Layers(window);
    layers.start();
    await Promise.resolve();
    expect([layers.count.value, window.at]).toEqual([0, at]);
  }
});
