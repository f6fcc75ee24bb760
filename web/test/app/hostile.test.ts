/**
 * All hostile text that tests know, through a real relay, a real host and the real Codex, on every screen that it reaches:
 * nothing of it runs, loads, or is anywhere but where such text belongs.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { json, text } from "../../src/json";
import { COMMAND, FILE, LINE, LURES, MARK, NAME, OUTPUT } from "../hostile";
import type { Second } from "../real/second";
import { ASKER } from "./asks";
import type { Desk } from "./desk";
import type { Phone } from "./phone";
import { Stage } from "./stage";

type Locator = ReturnType<Phone["page"]["locator"]>;

/** What its tool server asks. */
const QUESTIONS = {
  form: {
    mode: "form",
    message: `${LINE}\n${OUTPUT}`,
    requestedSchema: {
      type: "object",
      properties: {
        [NAME]: { type: "string", title: LINE, description: LINE },
        either: { type: "boolean", title: LINE, description: LINE },
        one: { type: "string", title: LINE, enum: ["a", LINE], enumNames: [LINE, "b"] },
      },
      required: [NAME],
    },
  },
  link: { mode: "url", message: LINE, url: `https://evil.example/${encodeURI(NAME)}?${MARK}`, elicitationId: "one" },
};

let origin: string;
let host: Second;
let desk: Desk;
let phone: Phone;
/** What the page asked for, and what it had a person see. */
const asked: string[] = [];
const dialogs: string[] = [];
/** The route of the host's threads. */
let threads: string;
const stage = Stage.ofFile();

beforeEach(async () => {
  [asked.length, dialogs.length] = [0, 0];
  // What a policy refused fails each test that has a phone.
  phone = await stage.unbox();
  phone.page.context().on("request", (request) => asked.push(request.url()));
  phone.page.on("websocket", (socket) => asked.push(socket.url().replace(/^ws/, "http")));
  phone.page.on("dialog", (dialog) => {
    dialogs.push(dialog.message());
    void dialog.dismiss();
  });
  phone.page.on("popup", (popup) => dialogs.push(popup.url()));
  const up = await stage.pairs(phone);
  origin = new URL(up.relayUrl).origin;
  const asker = [ASKER, JSON.stringify(QUESTIONS)];
  host = await stage.pairsToo(phone, up, NAME, { folder: FILE, model: LINE, asker });
  desk = await stage.desk(host, NAME);
  await phone.taps(/^Open/);
  await phone.sees("No threads on");
  threads = phone.page.url();
});

/** Where text of others may stand. */
const PLACES =
  "bdi, code, pre, option, textarea, .say, .me__words, .said, .cmd, .strict, .diff .tx, .whole__line, .out";
/** All that an element says in which a name, a path, or a title stands by itself: a thread without a name has its prompt's. */
const ALONE = "^((/\\S*)?<img .*(Accept once|--yes`|gnp\\.txt(\\.md)?|\\(1\\)>|…)|@(say|shell|esc) .*)$";
/** Where the app alone speaks: all of it but what is named as somebody else's. */
const OWN = ".btn, .tab, .gate, .receipt, .badge, .tag, .digits, .ask__outcome, .ask__end";

/** Runs in the page: what hostile text has become there besides text in its place. */
function faults({ mark, places, own, alone }: Record<"mark" | "places" | "own" | "alone", string>): readonly string[] {
  const found: string[] = [];
  const NAMED = /\u2068[^\u2068\u2069]*\u2069/g;
  /** Where text of others has as many elements as it has lines or kinds of letters. */
  const whole = ".say, .me__words, .said, .cmd, .diff, .whole__line, .out, pre, code";
  const all = [...document.querySelectorAll("*")];
  for (const element of all) {
    const { localName, attributes } = element;
    const at = element.outerHTML.slice(0, 160);
    const address = element.getAttribute("href") ?? element.getAttribute("src") ?? "";
    const isElse = ["iframe", "object", "embed", "audio", "base", "frame", "foreignObject"].includes(localName);
    if (isElse || (localName === "form" && element.getAttribute("role") !== "search")) {
      found.push(`an element: ${at}`);
    }
    if (["img", "script", "link", "source", "image"].includes(localName) && /evil|alert|^x$/.test(address)) {
      found.push(`it loads: ${at}`);
    }
    if (localName === "style" && element.closest("body")) {
      found.push(`a style: ${at}`);
    }
    if (localName === "a" && !/^(#|https:\/\/|\/)/.test(address)) {
      found.push(`an address: ${at}`);
    }
    if (
      localName === "a" &&
      address.startsWith("https:") &&
      element.getAttribute("rel")?.includes("noreferrer") !== true
    ) {
      found.push(`an address that is told where from: ${at}`);
    }
    for (const { name, value } of attributes) {
      if (name.startsWith("on") || name === "srcdoc" || (name === "style" && /url|evil/.test(value))) {
        found.push(`an attribute ${name}: ${at}`);
      }
      // Another's name is between marks there, which nothing of it can end.
      const apart = /^(aria-label|title|alt|placeholder)$/.test(name);
      const own = apart ? value.replace(NAMED, "") : value;
      if (apart && own.includes(mark)) {
        found.push(`not apart in ${name}: ${at}`);
      }
      if (name !== "value" && /[\u202a-\u202e\u2066-\u2069\u200b\u{e0001}-\u{e007f}]/u.test(own)) {
        found.push(`a hidden character in ${name}: ${at}`);
      }
    }
  }
  const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
    const around = node.parentElement;
    const isTitle = around?.closest("head title") != null;
    const words = isTitle ? (node.textContent ?? "").replace(NAMED, "") : (node.textContent ?? "");
    if (/(?![\n\t])\p{Cc}|[\u202a-\u202e\u2066-\u2069\u200b\u{e0001}-\u{e007f}]/u.test(words)) {
      found.push(`a hidden character: ${around?.outerHTML.slice(0, 160) ?? ""}`);
    }
    if (isTitle && words.includes(mark)) {
      found.push(`not apart in the title: ${words}`);
    }
    if (words.includes(mark) && around?.closest("title") === null) {
      if (around.closest(places) === null) {
        found.push(`no place of its own: ${around.outerHTML.slice(0, 160)}`);
      }
      const name = around.closest("bdi");
      const said = name?.textContent.trim() ?? "";
      if (name !== null && name.closest(whole) === null && !new RegExp(alone, "s").test(said)) {
        found.push(`among the app's own words: ${name.outerHTML.slice(0, 400)}`);
      }
      const speaker = around.closest(own);
      if (speaker !== null && around.closest("bdi, code") === null) {
        found.push(`in the app's own words: ${speaker.outerHTML.slice(0, 160)}`);
      }
    }
  }
  return found;
}

/** Screens that had such text on them, each looked at. */
let looked: string[] = [];

/** Looks at the screen, which shows such text. */
async function isSound(name: string, within: Locator = phone.page.locator("body")): Promise<void> {
  await within
    .getByText(MARK)
    .or(within.locator("option, textarea", { hasText: MARK }))
    .first()
    .waitFor({ state: "attached" });
  expect
    .soft(await phone.page.evaluate(faults, { mark: MARK, places: PLACES, own: OWN, alone: ALONE }), name)
    .toEqual([]);
  expect.soft(dialogs, name).toEqual([]);
  expect
    .soft(
      asked.filter((url) => new URL(url).origin !== origin && !url.startsWith("blob:")),
      name,
    )
    .toEqual([]);
  await phone.shoots(`hostile-${name}`);
  await phone.fits();
  looked.push(name);
}

/** Begins a thread of the host's, waits for its turn and opens it. */
async function opens(prompt: string): Promise<string> {
  const thread = await desk.finishes(host.project, prompt);
  await phone.page.goto(`${threads}/t/${thread}`);
  await phone.page.locator("main .log").waitFor();
  return thread;
}

test("hosts, threads, and all that is said of a host, by names that would be more", async () => {
  looked = [];
  const thread = await desk.finishes(host.project, `@say ${LINE}`);
  await phone.page.locator("li.thread", { hasText: MARK }).waitFor();
  await isSound("threads");
  await desk.asks("thread/name/set", { threadId: thread, name: LINE });
  await desk.asks("thread/goal/set", { threadId: thread, objective: LINE, status: "paused" });
  await phone.taps(/^Menu of/);
  await phone.page.getByRole("dialog").waitFor();
  await isSound("menu", phone.page.getByRole("dialog"));
  await phone.page.keyboard.press("Escape");
  await phone.taps("About this host");
  await isSound("about");
  const id = (await phone.page.locator("dd code").nth(1).textContent()) ?? "";
  expect(await host.command("devices", "scope", id, "admin").exited()).toBe(0);
  await phone.sees(/manage devices/);
  await phone.taps(/^Devices/);
  await phone.page.locator("main .row", { hasText: MARK }).first().waitFor();
  await isSound("devices", phone.page.locator("main"));
  await phone.page.locator("main .row", { hasText: MARK }).first().tap();
  await isSound("device", phone.page.locator("dialog[open], main").last());
  await phone.page.goto(`${threads}/connection`);
  await isSound("connection");
  await phone.page.goto(`${origin}/#/hosts`);
  await isSound("hosts");
  await phone.taps("Settings");
  await isSound("settings");
  await phone.taps("Inbox");
  await isSound("inbox-finished");
  await phone.page.goto(`${threads}/new`);
  await phone.page.getByLabel("Model").locator("option").nth(1).waitFor({ state: "attached" });
  await phone.page.getByRole("textbox", { name: "First message" }).fill(LINE);
  await phone.page.getByLabel(/^Goal/).fill(LINE);
  await isSound("new", phone.page.locator("main"));
  await phone.taps(/^Folder/);
  await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
  await isSound("folders", phone.page.getByRole("dialog"));
  await phone.page.goto(`${threads}/t/${thread}`);
  await phone.page.locator("main .log").waitFor();
  expect(await host.command("devices", "revoke", id).exited()).toBe(0);
  await phone.sees(/took this device off/);
  await isSound("ended", phone.page.locator("main"));
  expect(looked).toHaveLength(12);
});

test("what Codex says, and what its commands write", async () => {
  const thread = await opens(`@say ${[...Object.values(LURES), LINE].join("\n\n")}`);
  await isSound("said", phone.page.locator(".say"));
  writeFileSync(join(host.project, FILE), `${OUTPUT}\n`.repeat(60));
  await desk.prompts(thread, "@shell ls; cat *.txt");
  const command = phone.page.locator("details.item", { hasText: "cat" });
  await command.locator("summary").first().tap();
  await command.locator(".out").waitFor();
  await isSound("output", command);
  await phone.taps("All output");
  await phone.page.getByRole("dialog").getByText(MARK).first().waitFor();
  await isSound("all-output", phone.page.getByRole("dialog"));
  await phone.page.goBack();
  await desk.asks("thread/goal/set", { threadId: thread, objective: LINE, status: "paused" });
  await phone.page.locator(".dock", { hasText: MARK }).waitFor();
  await isSound("goal", phone.page.locator(".dock"));
  // What a person sends is no better.
  const field = phone.page.getByLabel("Message to Codex");
  await phone.page
    .locator("input[type=file]")
    .setInputFiles({ name: FILE, mimeType: "text/plain", buffer: Buffer.from(OUTPUT) });
  await field.fill(`@wait\n${LINE}`);
  await isSound("composer", phone.page.locator(".dock"));
  await field.press("Control+Enter");
  await phone.page.getByRole("button", { name: "Stop" }).waitFor();
  await isSound("sent", phone.page.locator(".me"));
  await field.fill(LINE);
  await phone.taps("After this turn");
  await phone.page.locator(".queue", { hasText: MARK }).waitFor();
  await isSound("queue", phone.page.locator(".queue"));
  await desk.lets(host.project);
});

test("what Codex asks, in its thread and in the inbox, and the files that it changed", async () => {
  const thread = await opens("mend the shop");
  await desk.prompts(thread, `@esc ${COMMAND}`);
  await phone.sees("Run this command?");
  await isSound("asked", phone.page.locator(".ask"));
  for (const name of ["U+202E right-to-left override", "U+200B zero width space", "U+001B escape", /^U\+0443/]) {
    await phone.page.locator(".ask .ghost", { hasText: name }).first().waitFor();
  }
  expect(await phone.page.locator(".ask img, .ask script, .ask a").count()).toBe(0);
  // One that would fit a row, but for its folder.
  await desk.begins(host.project, `@esc echo '${NAME}'`);
  await phone.page.goto(`${origin}/#/inbox`);
  await phone.sees("2 waiting on 1 host");
  await isSound("inbox");
  expect(await phone.page.getByRole("button", { name: /^Accept once/ }).count()).toBe(0);
  await phone.page.goto(`${threads}/t/${thread}`);
  await phone.taps("Decline");
  await phone.sees("You declined: a command.");
  const lines = OUTPUT.split(/[\n\r]/).map((line) => `+${line}`);
  const patch = ["*** Begin Patch", `*** Add File: ${FILE}.md`, ...lines, "*** End Patch"].join("\n");
  await desk.prompts(thread, `@shell apply_patch <<'EOF'\n${patch}\nEOF`);
  await phone.sees("Make these changes?");
  await isSound("asked-files", phone.page.locator(".ask"));
  await phone.page.locator(".ask__end").scrollIntoViewIfNeeded();
  await phone.page.locator(".gate", { hasText: "You have seen all of it" }).waitFor();
  await phone.page.getByRole("button", { name: "Accept once" }).tap();
  await phone.sees("You accepted once: a change to files.");
  const change = phone.page.locator(".item--files");
  await change.locator("summary").first().tap();
  await change.locator(".file .diff").waitFor();
  await isSound("changed", change);
  const { thread: read } = await desk.asks("thread/read", { threadId: thread, includeTurns: false });
  expect(text(json(read).id)).toBe(thread);
});

test("what a tool server asks: its words, what it wants filled in, and where it would lead", async () => {
  const thread = await opens("mend the shop");
  for (const [question, shows] of [
    ["form", ".ask__form"],
    ["link", "text=evil.example"],
  ] as const) {
    await desk.prompts(thread, `@call mcp__asker/${question} {}`);
    await phone.page.locator(".ask").locator(shows).first().waitFor();
    await isSound(`asked-${question}`, phone.page.locator(".ask"));
    expect(await phone.page.locator(".ask img, .ask script").count()).toBe(0);
    await phone.page.goto(`${origin}/#/inbox`);
    await phone.sees("1 waiting on 1 host");
    await isSound(`inbox-${question}`);
    await phone.page.goto(`${threads}/t/${thread}`);
    await phone.page.getByRole("button", { name: "Decline" }).tap();
    await phone.page.locator(".ask").waitFor({ state: "detached" });
  }
});
