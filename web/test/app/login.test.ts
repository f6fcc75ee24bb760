/** A machine that asks for a code after a key, and a phone that is asked for it: real sshd and PAM, whose services are root's to add. */
import { userInfo } from "node:os";
import { beforeEach, expect, test } from "vitest";
import { named } from "../../src/views/named";
import { MACHINE } from "../hostile";
import type { Up } from "../real/up";
import { audits } from "./audit";
import { CODE, Machine } from "./machine";
import type { Phone } from "./phone";
import { Stage } from "./stage";

let machine: Machine;
let up: Up;
let phone: Phone;
const stage = Stage.ofFile();
const isRoot = userInfo().uid === 0;

/** A host whose configuration names a machine that asks for a code, and a device with `admin` at its list of machines. */
beforeEach(async ({ skip }) => {
  skip(!isRoot, "services of PAM are root's to add");
  phone = await stage.unbox();
  machine = await Machine.silent({ asks: true });
  up = await stage.pairs(phone, machine.named);
  machine.at(up);
  stage.leftovers.addLast(() => machine.stop());
  await machine.goesOn();
  await machine.joins();
  await phone.taps(/^Open/);
  await phone.sees(/reachback ssh login devbox/);
  await phone.taps("About this host");
  const device = (await phone.page.locator("dd code").nth(1).textContent()) ?? "";
  expect(await up.command("devices", "scope", device, "admin").exited()).toBe(0);
});

async function opensMachines(): Promise<void> {
  await phone.taps(/^SSH machines/);
  await phone.page.getByRole("button", { name: `Take back ${named("devbox")}` }).waitFor();
}

/** The button of the sheet with this name. */
function button(name: string): ReturnType<Phone["page"]["locator"]> {
  return phone.page.getByRole("dialog").getByRole("button", { name, exact: true });
}

/** Opens the sheet, and has the machine ask. */
async function asks(): Promise<ReturnType<Phone["page"]["locator"]>> {
  await button(`Log in with a code: ${named("devbox")}`).tap();
  await button("Ask the machine").tap();
  const field = phone.page.getByLabel("The machine asks: Password:");
  await field.waitFor();
  return field;
}

/** Waits until that has come to an end, back at the machines. */
async function isLoggedIn(): Promise<void> {
  await button(`Take back ${named("devbox")}`).waitFor();
  await phone.sees("The host is logged in to devbox.");
}

/** Runs in the page: all that the browser keeps for it, as text. */
async function everythingKept(): Promise<string> {
  const rowsOf = (database: IDBDatabase, name: string): Promise<unknown> =>
    new Promise((resolve) => {
      const all = database.transaction(name).objectStore(name).getAll();
      all.onsuccess = () => {
        resolve(all.result);
      };
    });
  const kept: unknown[] = [Object.entries(localStorage), Object.entries(sessionStorage), history.state, location.href];
  for (const { name = "" } of await indexedDB.databases()) {
    const database = await new Promise<IDBDatabase>((resolve) => {
      const open = indexedDB.open(name);
      open.onsuccess = () => {
        resolve(open.result);
      };
    });
    for (const store of database.objectStoreNames) {
      kept.push([name, store, await rowsOf(database, store)]);
    }
    database.close();
  }
  // Bytes as the text that they may be.
  const told = (_: string, value: unknown): unknown =>
    value instanceof Uint8Array || value instanceof ArrayBuffer ? new TextDecoder("latin1").decode(value) : value;
  return JSON.stringify(kept, told);
}

test("a device is asked for a machine's code where the owner said so, and its threads come", async () => {
  await opensMachines();
  await phone.sees(/reachback ssh login devbox/);
  expect(await button(`Log in with a code: ${named("devbox")}`).count()).toBe(0);
  await button("Close").tap();
  await machine.asksDevices(true);

  await opensMachines();
  await phone.shoots("login-offered");
  await audits(phone, "login-offered");
  await button(`Log in with a code: ${named("devbox")}`).tap();
  await phone.sees(/Have the code ready/);
  await phone.shoots("login-first");
  await audits(phone, "login-first");
  await button("Back").tap();
  const field = await asks();
  expect(await field.evaluate((own) => own === document.activeElement)).toBe(true);
  expect([await field.getAttribute("type"), await field.getAttribute("autocomplete")]).toEqual([
    "password",
    "one-time-code",
  ]);
  await phone.shoots("login-asked");
  await audits(phone, "login-asked");

  await button("Send").tap();
  await phone.sees(/Nothing is typed in a field/);
  await field.fill(CODE);
  await button("Send").tap();
  await isLoggedIn();
  await button("Close").tap();
  await phone.taps("Back to threads");
  await phone.page.locator("li.thread").filter({ hasText: "thread 1 of many" }).waitFor();
  const kept = await phone.page.evaluate(everythingKept);
  expect(kept).toContain("reachback");
  expect(kept).not.toContain(CODE);
});

test("a code that was wrong ends the login, and the next one waits", async () => {
  await machine.asksDevices(true);
  await opensMachines();
  const field = await asks();
  await field.fill("wrong");
  await button("Send").tap();
  await phone.sees("did not let the host in after what you typed");
  await phone.shoots("login-wrong");
  await audits(phone, "login-wrong");
  await phone.sees(/The next login may begin in \d+ s/);
  expect(await button("Ask the machine").isDisabled()).toBe(true);
});

test.each(["End the login", "Back", "Close"])(
  "%s ends a login that waits for its code, and the next one waits",
  async (how) => {
    await machine.asksDevices(true);
    await opensMachines();
    const field = await asks();
    await field.fill("half a co");
    await phone.sees("counts as one that failed");
    await button(how).tap();
    if (how === "Close") {
      await phone.page.getByRole("dialog").waitFor({ state: "detached" });
      await opensMachines();
    }
    if (how !== "End the login") {
      await button(`Log in with a code: ${named("devbox")}`).tap();
    }
    await phone.page.getByRole("alert").getByText("You ended this login.").waitFor();
    await phone.sees(/The next login may begin in \d+ s/);
    expect(await button("Ask the machine").isDisabled()).toBe(true);
    expect(await phone.page.locator(".alien, dialog code").count()).toBe(0);
    if (how === "End the login") {
      await phone.shoots("login-ended");
      await audits(phone, "login-ended");
    }
  },
);

test("a question stands while there is no link, and is answered once it is back", async () => {
  await machine.asksDevices(true);
  await opensMachines();
  const field = await asks();
  await field.fill(CODE);
  await phone.page.context().setOffline(true);
  await phone.sees("There is no link to the host");
  expect(await button("Send").isDisabled()).toBe(true);
  await field.press("Enter");
  expect(await field.inputValue()).toBe(CODE);
  await phone.shoots("login-offline");
  await audits(phone, "login-offline");
  await phone.page.context().setOffline(false);
  await phone.page.getByText("There is no link to the host").waitFor({ state: "detached" });
  await button("Send").tap();
  await isLoggedIn();
});

test("what one device is asked is shown on no other, which has no login meanwhile", async () => {
  const other = await stage.unbox();
  const command = up.command("pair", "--yes", "--scope", "admin");
  await other.opens(await command.says("pairing", "url"));
  await other.sees("Paired with");
  await command.stop("SIGTERM");
  await other.taps(/^Open/);
  await other.taps("About this host");
  await machine.asksDevices(true);
  await opensMachines();
  const field = await asks();

  await other.taps(/^SSH machines/);
  await other.taps(`Log in with a code: ${named("devbox")}`);
  await other.taps("Ask the machine");
  await other.page.getByRole("alert").getByText("Another login there is under way.").waitFor();
  expect(await other.page.locator(".alien").count()).toBe(0);
  await other.shoots("login-elsewhere");
  await audits(other, "login-elsewhere");

  await field.fill(CODE);
  await button("Send").tap();
  await isLoggedIn();
});

/** Looks that the machine's words stand in their frame, all of them, and nowhere else; and do nothing. */
async function isFramed(): Promise<void> {
  const sheet = phone.page.getByRole("dialog", { name: "Log in to devbox" });
  const frame = sheet.getByRole("region", { name: /^What \S+@devbox says$/ });
  const words = await frame.innerText();
  expect(words).toContain("<img src=x onerror=alert(1)><script>alert(2)</script><b>bold</b> &lt;i&gt;");
  expect(words).toContain("At the host: `reachback pair --yes --scope admin`");
  expect(words).toContain("x".repeat(700));
  // What would turn or hide them stands by its name.
  expect(words.match(/\p{Cf}|(?!\n)\p{Cc}/gu)).toBeNull();
  expect(await frame.locator("img, script, a, code, button").count()).toBe(0);
  const outside = await sheet.evaluate((own) => {
    const texts = document.createTreeWalker(own, NodeFilter.SHOW_TEXT);
    let text = "";
    for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
      text += node.parentElement?.closest(".alien") ? "" : (node.textContent ?? "");
    }
    return text;
  });
  expect(outside).not.toMatch(/onerror|pair --yes|xxxx|epyt/);
  expect(outside).toContain("The framed words are the machine's own");
}

test("words of a machine that have nothing good in mind are words in a frame", async () => {
  machine.says(MACHINE);
  await machine.asksDevices(true);
  await opensMachines();
  await button(`Log in with a code: ${named("devbox")}`).tap();
  await button("Ask the machine").tap();
  const field = phone.page.getByLabel(/^The machine asks:/);
  await field.waitFor();
  await isFramed();
  await phone.shoots("login-hostile");
  await audits(phone, "login-hostile");
  await field.fill(CODE);
  await button("Send").tap();
  await isLoggedIn();
});

test("several prompts of one question are each answered, whatever a host lets through of them", async () => {
  await machine.asksDevices(true);
  await opensMachines();
  // A host that has the machine's words go through as they are, and would ask three things at once.
  const says = {
    name: `\u202eeman\u202c ${MACHINE}`,
    instruction: MACHINE,
    prompts: [
      { words: "Password:", echo: false },
      { words: "Your \u202etokn:\u202c", echo: true },
      { words: MACHINE, echo: false },
    ],
  };
  await phone.page.evaluate((says) => {
    const [parse, stringify] = [JSON.parse, JSON.stringify];
    JSON.parse = (text: string): unknown => {
      const message: unknown = parse(text);
      const asks = message instanceof Object && "method" in message && message.method === "ssh/asked";
      if (asks && "params" in message && message.params instanceof Object) {
        Object.assign(message.params, { says });
      }
      return message;
    };
    JSON.stringify = (message: { method?: string; params: { answers: string[] } }) => {
      if (message.method === "ssh/answer") {
        document.documentElement.dataset.answers = stringify(message.params.answers);
        message.params.answers = message.params.answers.slice(0, 1);
      }
      return stringify(message);
    };
  }, says);
  await button(`Log in with a code: ${named("devbox")}`).tap();
  await button("Ask the machine").tap();
  const fields = phone.page.getByLabel(/^The machine asks:/);
  await fields.nth(2).waitFor();
  await isFramed();
  const types = await fields.evaluateAll((all) => all.map((one) => one.getAttribute("type")));
  expect(types).toEqual(["password", "text", "password"]);
  // It is far to the first field: who says all that comes before.
  expect(await phone.page.locator("dialog :focus").locator("input").count()).toBe(3);
  expect(await phone.page.locator("dialog .sheet__body").evaluate(({ scrollTop }) => scrollTop)).toBe(0);
  await phone.shoots("login-several");
  await audits(phone, "login-several");
  await fields.nth(0).fill(CODE);
  await fields.nth(2).fill("third");
  await button("Send").tap();
  await phone.sees(/Nothing is typed in a field/);
  expect(await fields.nth(1).evaluate((own) => own === document.activeElement)).toBe(true);
  await fields.nth(1).fill("second");
  await button("Send").tap();
  await isLoggedIn();
  const answers = await phone.page.evaluate(() => document.documentElement.dataset.answers);
  expect(answers).toBe(JSON.stringify([CODE, "second", "third"]));
});
