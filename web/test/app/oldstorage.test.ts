/** What a browser kept for an older version of the app, what a newer one leaves, and two versions in two tabs. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { json, text } from "../../src/json";
import { MIGRATIONS } from "../../src/store/schema";
import type { Up } from "../real/up";
import { audits } from "./audit";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { rebuild } from "./site";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

/** The stores of the versions before, in the order in which they came, and what their rows had then: this never changes. */
const STORES = [
  { name: "hosts", keyPath: "id", fields: ["id", "name", "relays", "scope", "deviceId", "pairedAt", "keys"] },
  { name: "starts", keyPath: "host", fields: ["host", "text", "environment", "folder", "model", "effort", "sent"] },
  {
    name: "messages",
    keyPath: ["host", "environment", "thread"],
    fields: ["host", "environment", "thread", "text", "message", "delivery", "sent"],
  },
];
/** What somebody was about to begin a thread with, and to write to one. */
const [DRAFT, MESSAGE] = ["mend the door", "and the window"];
const NEWER = "A newer version of the app has been here. Reload this page.";
const BLOCKED = "Another tab holds an older version of the app. Close it, then try again.";

let up: Up;
let desk: Desk;
let phone: Phone;
// To the browser what a test answers comes from elsewhere, and may not connect to this computer.
const stage = Stage.ofFile({ chromium: ["--disable-features=LocalNetworkAccessChecks"] });

/** Pairs a phone that writes both drafts, and has a thread; `workers` as in `unbox`. */
async function writes(workers = true): Promise<void> {
  phone = await stage.unbox({ workers });
  up = await stage.pairs(phone);
  desk = await stage.desk(up);
  await desk.finishes(up.project, "mend the shop");
  await phone.taps(/^Open/);
  await phone.drafts(DRAFT);
  await phone.taps("Close, keeps the draft");
  await opensThread(phone);
  await message(phone).fill(MESSAGE);
  await expect.poll(() => texts(phone), { timeout: 30_000 }).toEqual([DRAFT, MESSAGE]);
}

/** The drafts that the database has. */
async function texts({ page }: Phone): Promise<readonly string[]> {
  const rows = await page.evaluate(async () => {
    const result = <T>(request: IDBRequest<T>): Promise<T> =>
      new Promise((resolve) => {
        request.onsuccess = () => {
          resolve(request.result);
        };
      });
    const database = await result(indexedDB.open("reachback"));
    const all = (name: string): Promise<readonly unknown[]> =>
      result<unknown[]>(database.transaction(name).objectStore(name).getAll());
    const rows = [...(await all("starts")), ...(await all("messages"))];
    database.close();
    return rows;
  });
  return rows.map((row) => text(json(row).text));
}

/** The database's version, and what it consists of. */
async function shape({ page }: Phone): Promise<unknown> {
  return page.evaluate(
    () =>
      new Promise((resolve) => {
        const open = indexedDB.open("reachback");
        open.onsuccess = () => {
          const database = open.result;
          const stores = [...database.objectStoreNames].map((name) => {
            const store = database.transaction(name).objectStore(name);
            const indexes = [...store.indexNames].map((name) => {
              const { keyPath, unique, multiEntry } = store.index(name);
              return { name, keyPath, unique, multiEntry };
            });
            return { name, keyPath: store.keyPath, autoIncrement: store.autoIncrement, indexes };
          });
          database.close();
          resolve({ version: database.version, stores });
        };
      }),
  );
}

/** Goes to a page of the app's origin that has no app. */
async function goesAside({ page }: Phone): Promise<void> {
  const aside = `${up.relayUrl}/aside`;
  await page.route(aside, (route) =>
    route.fulfill({ contentType: "text/html", body: '<link rel="icon" href="data:,">' }),
  );
  await page.goto(aside);
}

/**
 * Has the database be as this version wrote it, with all that is in the one of now and was there then. `holds`: and does
 * not let go of it, as a page of a version that did not hear of a newer one.
 */
async function becomes({ page }: Phone, version: number, holds = false): Promise<void> {
  const work = async (asked: { version: number; holds: boolean; stores: typeof STORES }): Promise<void> => {
    const result = <T>(request: IDBRequest<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => {
          resolve(request.result);
        };
        request.onerror = () => {
          reject(request.error ?? new Error("no error"));
        };
      });
    const now = await result(indexedDB.open("reachback"));
    const rows = new Map<string, readonly object[]>();
    for (const { name, fields } of asked.stores) {
      const all = await result<unknown[]>(now.transaction(name).objectStore(name).getAll());
      const then = (row: unknown): object =>
        Object.fromEntries(Object.entries(row ?? {}).filter(([field]) => fields.includes(field)));
      rows.set(name, all.map(then));
    }
    now.close();
    await result(indexedDB.deleteDatabase("reachback"));
    const open = indexedDB.open("reachback", asked.version);
    open.onupgradeneeded = () => {
      for (const { name, keyPath } of asked.stores) {
        const store = open.result.createObjectStore(name, { keyPath });
        rows.get(name)?.forEach((row) => store.put(row));
      }
    };
    const then = await result(open);
    if (!asked.holds) {
      then.close();
    }
  };
  await page.evaluate(work, { version, holds, stores: STORES.slice(0, version) });
}

/** Opens the app at the host's threads, and waits until it is online. */
async function comesOnline({ page }: Phone): Promise<void> {
  await page.goto(`${up.relayUrl}/#/hosts`);
  await page.locator("a.row").first().tap();
  await page.getByText("Online").first().waitFor();
}

/** Opens the only thread. */
async function opensThread(phone: Phone): Promise<void> {
  await phone.page.locator("li.thread").first().tap();
  await phone.sees("You are talking to the real Codex");
  await message(phone).waitFor();
}

function message({ page }: Phone): Locator {
  return page.getByLabel("Message to Codex");
}

/** What stands in a thread that is about to be begun. */
async function draft(phone: Phone): Promise<string> {
  await phone.taps("New");
  await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
  const text = await phone.page.getByRole("textbox", { name: "First message" }).inputValue();
  await phone.taps("Close, keeps the draft");
  return text;
}

test.each([1, 2, 3])("what version %i kept is there, and what came since can be used", async (version) => {
  await writes();
  const fresh = await shape(phone);
  await goesAside(phone);
  await becomes(phone, version);
  expect(await shape(phone)).toMatchObject({ version, stores: { length: version } });
  await comesOnline(phone);
  await phone.page.locator("li.thread").first().waitFor();
  expect(await shape(phone)).toEqual(fresh);
  expect(await draft(phone)).toBe(version < 2 ? "" : DRAFT);
  await opensThread(phone);
  expect(await message(phone).inputValue()).toBe(version < 3 ? "" : MESSAGE);

  // Each store takes rows: a draft, a message, and what is attached to it.
  await phone.page.getByLabel("Back to threads").tap();
  await phone.drafts(`${DRAFT}, and the roof`);
  await phone.taps("Close, keeps the draft");
  await opensThread(phone);
  await message(phone).fill(`${MESSAGE}, and the floor`);
  const [chooser] = await Promise.all([
    phone.page.waitForEvent("filechooser"),
    phone.page.getByRole("button", { name: "Attach photo or file" }).tap(),
  ]);
  await chooser.setFiles([{ name: "list.txt", mimeType: "text/plain", buffer: Buffer.from("nails") }]);
  const attached = phone.page.getByRole("list", { name: "Attached" }).getByText("list.txt");
  await attached.waitFor();
  await expect.poll(() => texts(phone)).toEqual([`${DRAFT}, and the roof`, `${MESSAGE}, and the floor`]);
  await phone.page.reload();
  await attached.waitFor();
  expect(await message(phone).inputValue()).toBe(`${MESSAGE}, and the floor`);
  await phone.taps(/^Send$/);
  await phone.page.locator(".me").filter({ hasText: "and the floor" }).getByText("list.txt").waitFor();
  const answers = phone.page.getByText("You are talking to the real Codex");
  await expect.poll(() => answers.count(), { timeout: 30_000 }).toBe(2);
});

test("a page that does not let go of an older database is named, and closing it is all that it takes", async () => {
  await writes();
  const other = await phone.another();
  await goesAside(phone);
  await goesAside(other);
  await becomes(other, 1, true);
  await phone.page.goto(`${up.relayUrl}/#/hosts`);
  await phone.sees(BLOCKED);
  await phone.fits();
  await audits(phone, "storage-blocked");
  await other.page.close();
  await phone.taps("Try again");
  await phone.page.locator("a.row").first().tap();
  await phone.sees("Online");
  await phone.page.locator("li.thread").first().waitFor();
});

describe("with a version that has one step more", () => {
  let folder: string;
  let newer: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "reachback-newer-"));
    const last = 'store.createIndex("prompt", ["host", "prompt"]);\n  },\n';
    newer = await rebuild(folder, {
      "src/store/schema.ts": [last, `${last}  (database) => void database.createObjectStore("later"),\n`],
    });
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  beforeEach(async () => {
    // Where a worker has the app, tabs are of one version.
    await writes(false);
  });

  /** Has this tab get the newer version from now on. */
  async function gets({ page }: Phone): Promise<void> {
    const served = await fetch(up.relayUrl);
    const policy = served.headers.get("content-security-policy") ?? "";
    const [origin = ""] = /(?<=name="reachback-relay" content=")[^"]*/.exec(await served.text()) ?? [];
    await page.route(`${up.relayUrl}/**`, async (route) => {
      const { pathname } = new URL(route.request().url());
      const path = join(newer, pathname === "/" ? "index.html" : pathname);
      const kind = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" }[extname(path)];
      if (kind === undefined || !existsSync(path)) {
        await route.continue();
        return;
      }
      const body = readFileSync(path, "utf8").replace("{{origin}}", origin);
      await route.fulfill({ body, headers: { "content-type": kind, "content-security-policy": policy } });
    });
  }

  test("the older one makes way for it, says what it can't keep, and shows no host; the newer one has all", async () => {
    const other = await phone.another();
    await gets(other);
    await comesOnline(other);
    expect(await shape(other)).toMatchObject({ version: MIGRATIONS.length + 1 });
    await opensThread(other);
    expect(await message(other).inputValue()).toBe(MESSAGE);

    // What the older one knew is there still, and what is written there is not lost unsaid.
    await phone.taps("Use it here");
    await phone.sees("Online");
    expect(await message(phone).inputValue()).toBe(MESSAGE);
    await message(phone).fill(`${MESSAGE}, and the floor`);
    await phone.sees("This can't be kept on this device: copy it, so that it is not lost.");
    await audits(phone, "storage-unkept");
    expect(await message(phone).inputValue()).toBe(`${MESSAGE}, and the floor`);
    await phone.page.reload();
    await phone.sees(NEWER);
    await phone.taps("Try again");
    await phone.sees(NEWER);
    await phone.shoots("storage-newer");
    await phone.fits();
    await audits(phone, "storage-newer");

    // As soon as it is the newer one as well.
    expect(await texts(phone)).toEqual([DRAFT, MESSAGE]);
    await gets(phone);
    await phone.page.reload();
    await comesOnline(phone);
    expect(await draft(phone)).toBe(DRAFT);
    await opensThread(phone);
    expect(await message(phone).inputValue()).toBe(MESSAGE);
  });
});
