/** Every screen, for everybody: nothing serious that axe-core finds, and all of it there on small screens, in large text. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { auditsCode } from "./audit";
import { Camera } from "./camera";
import type { Phone } from "./phone";
import { Site } from "./site";
import { Stage } from "./stage";

/** A name that is no loopback address, so that a browser gives its page no keys, and leads to this computer all the same. */
const ELSEWHERE = "relay.example";

const camera = new Camera();
// What is said first is done last: the browser is closed before.
afterAll(() => {
  camera.putAway();
});
const stage = Stage.ofFile({
  apart: true,
  chromium: [...camera.args, `--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1`],
});

/** The row of the thread with this title. */
function row(phone: Phone, title: string): ReturnType<Phone["page"]["locator"]> {
  return phone.page.locator("li.thread").filter({ hasText: title });
}

describe("before there is a host", () => {
  test("welcome, the scanner, a code that is typed", async () => {
    const phone = await stage.unbox();
    await phone.page.goto(stage.apart.relayUrl);
    await phone.sees("Your Codex, from here");
    await phone.page.getByText("From a terminal instead").tap();
    await auditsCode(phone, "welcome");
    await phone.taps("Scan the code");
    await phone.sees("Camera is off for Reachback");
    await auditsCode(phone, "camera-off");
    await phone.page.context().grantPermissions(["camera"]);
    await phone.taps("Try again");
    await phone.sees("Point at the QR code in the terminal");
    await auditsCode(phone, "scan");
    await phone.taps("Type a code instead");
    await phone.page.getByLabel("Code shown by").fill("7KQD-M2XT-9RW4-");
    await phone.page.getByLabel("Name of this device").fill("x".repeat(65));
    await phone.sees("That is too long for a name");
    await auditsCode(phone, "code");
  });

  test("digits, which run out", async () => {
    const phone = await stage.unbox();
    const terminal = stage.terminal("pair", "--wait", "30");
    await phone.page.goto(await terminal.shows(/reachback join '(\S+)'/));
    await phone.sees("The code is still good");
    await phone.taps(/^Pair$/);
    await phone.sees("Type these six digits");
    await terminal.shows(/(wants to pair)/);
    await auditsCode(phone, "digits");
    await phone.sees("The code ran out");
    await auditsCode(phone, "expired");
  });

  test("a code that ran out before it was opened", async () => {
    const terminal = stage.terminal("pair", "--wait", "1");
    const url = await terminal.shows(/reachback join '(\S+)'/);
    await terminal.shows(/\[(exit code \d+)\]/);
    const phone = await stage.unbox();
    await phone.page.goto(url);
    await phone.sees("The code is still good");
    await auditsCode(phone, "offered");
    await phone.taps(/^Pair$/);
    await phone.sees("No pairing with that code is open");
    await auditsCode(phone, "no-such-code");
  });

  test("a page that is not encrypted says what is, and keeps the code", async () => {
    const phone = await stage.unbox({ bears: /Cross-Origin-Opener-Policy header has been ignored/ });
    // A relay refuses to be called by a name that is not its own.
    const site = await Site.start(stage.apart.relayUrl);
    stage.leftovers.add(() => site.stop());
    const url = site.url.replace("127.0.0.1", ELSEWHERE);
    await phone.page.goto(`${url}#AEAQ`);
    await phone.sees("This address is not encrypted");
    await phone.sees("Your pairing code is still good");
    expect(phone.page.url()).toBe(url);
    expect(await phone.page.evaluate(() => isSecureContext)).toBe(false);
    await auditsCode(phone, "insecure");
  });
});

describe("with a host", () => {
  test("paired, hosts, about one, settings, and each of them offline", async () => {
    const phone = await stage.unbox();
    const up = await stage.pairs(phone);
    await auditsCode(phone, "paired");
    await phone.goesOn();
    await auditsCode(phone, "threads-empty");
    await phone.taps("About this host");
    await auditsCode(phone, "about");
    await phone.taps("Remove from this device");
    await auditsCode(phone, "about-remove");
    await phone.taps("Keep");
    await phone.page.goto(`${up.relayUrl}/#/hosts`);
    await phone.sees("Keys are per host");
    await auditsCode(phone, "hosts");
    await phone.taps("Settings");
    await phone.sees(/kept in this browser/);
    await auditsCode(phone, "settings");
    await phone.taps("Hosts");
    await phone.page.context().setOffline(true);
    await phone.page.reload();
    await phone.sees("this device has no network");
    await auditsCode(phone, "hosts-offline");
    await phone.page.locator("a.row").first().tap();
    await phone.sees("This device has no network");
    await auditsCode(phone, "threads-offline");
    await phone.taps("About this host");
    await auditsCode(phone, "about-offline");
  });

  test("its threads, the menu of one, and the thread", async () => {
    const phone = await stage.unbox();
    const up = await stage.pairs(phone);
    const desk = await stage.desk(up);
    await phone.goesOn();
    const long = "mend the shop in Donaudampfschifffahrtsgesellschaftskapitänskajütenschlüsselverwaltung";
    const thread = await desk.finishes(up.project, long);
    await desk.begins(up.project, "@hang");
    await desk.begins(up.project, "@fail 400");
    await row(phone, "@hang").getByText("Running").waitFor();
    await row(phone, "@fail").getByText("Failed").waitFor();
    await row(phone, "mend").getByText("Done").waitFor();
    await auditsCode(phone, "threads");
    await phone.page.getByRole("searchbox").fill("nothing like it");
    await phone.sees("No thread has that in its title");
    await auditsCode(phone, "threads-search");
    await phone.page.getByRole("searchbox").fill("");
    await phone.taps(/^Menu of .mend/);
    await auditsCode(phone, "thread-menu");
    await phone.page.getByRole("dialog").getByRole("button", { name: "Rename", exact: true }).tap();
    await phone.page.getByRole("textbox", { name: "Name" }).waitFor();
    await auditsCode(phone, "thread-rename");
    await phone.page.keyboard.press("Escape");
    await row(phone, "mend").tap();
    await phone.sees("You are talking to the real Codex");
    await auditsCode(phone, "thread");
    await desk.prompts(thread, "@fail 400");
    await phone.sees("Failed.");
    await auditsCode(phone, "thread-failed");
  });

  test("a new thread, and the folder that it works in", async () => {
    const phone = await stage.unbox();
    const up = await stage.pairs(phone);
    const home = up.env.HOME ?? "";
    mkdirSync(join(home, "laboratories-of-the-department", "pdf", "bench"), { recursive: true });
    await phone.goesOn();
    await phone.drafts("mend the shop");
    await auditsCode(phone, "new");
    await phone.taps(/^Folder/);
    await phone.page.getByRole("heading", { name: "Workspaces" }).waitFor();
    await auditsCode(phone, "new-workspaces");
    await phone.taps(/^Another folder/);
    await phone.taps(new RegExp(`^home ${home}`));
    await phone.sees("No thread works in this folder itself");
    await phone.taps(/^laboratories/);
    await phone.sees("reachback workspace add");
    await auditsCode(phone, "new-folder");
    await phone.taps("Use it, untrusted");
    await phone.sees("Untrusted: its own Codex settings and tools stay off");
    await auditsCode(phone, "new-untrusted");
    await phone.page.context().setOffline(true);
    await phone.taps("Start");
    await phone.sees(/Held on this device/);
    await auditsCode(phone, "new-held");
  });

  test("a Codex that does not start", async () => {
    const phone = await stage.unbox();
    await stage.pairs(phone, (env) => {
      const program = join(env.HOME ?? "", "codex");
      writeFileSync(program, "#!/bin/sh\necho 'the ghost is out' >&2\nexit 3\n", { mode: 0o755 });
      return program;
    });
    await phone.taps(/^Open/);
    await phone.sees(/Codex does not run/);
    await auditsCode(phone, "codex-failed");
  });

  test("a pause, and a device that was taken off", async () => {
    const phone = await stage.unbox();
    const up = await stage.pairs(phone);
    await phone.goesOn();
    const device = await phone.deviceId();
    await phone.drafts("mend the shop, and say what was wrong");
    for (const [what, said] of [
      ["pause", /has paused this device$/],
      ["resume", null],
      ["revoke", /took this device off$/],
    ] as const) {
      expect(await up.command("devices", what, device).exited()).toBe(0);
      if (said === null) {
        await phone.taps("Try again");
        await phone.page.getByRole("button", { name: /^Folder/ }).waitFor();
      } else {
        await phone.sees(said);
        await auditsCode(phone, what);
      }
    }
  });
});
