/** The app where it is served by another server than a relay, over TLS, and relays that let its pages in or do not. */
import { afterAll, beforeEach, expect, test } from "vitest";
import { Up } from "../real/up";
import { audits } from "./audit";
import { Certificate } from "./certificate";
import type { Phone } from "./phone";
import { Site } from "./site";
import { Stage } from "./stage";

const certificate = new Certificate();
const stage = Stage.ofFile({ chromium: [certificate.trusted] });
/** A policy that did not let the page connect. */
const BARRED = /^refused: connect-src|violates the following Content Security Policy/;
/** Where the pages of `site` come from. */
let origin: string;
let site: Site;

beforeEach(async () => {
  site = await served();
  ({ origin } = new URL(site.url));
});

afterAll(() => {
  certificate.remove();
});

/** A server of the app's. */
async function served(): Promise<Site> {
  const site = await Site.secure(certificate);
  stage.leftovers.add(() => site.stop());
  return site;
}

/** A relay that lets pages of `site` in, and a host of it that has its codes lead there. */
async function starts(): Promise<Up> {
  const files = ["--tls-cert", certificate.cert, "--tls-key", certificate.key];
  const trusts = (env: NodeJS.ProcessEnv): undefined => {
    env.SSL_CERT_FILE = certificate.cert;
  };
  const up = await Up.start(trusts, [...files, "--web-origin", origin]);
  stage.leftovers.addLast(async () => {
    expect(await up.stop()).toBe(0);
  });
  return up;
}

/** What stands behind the # of the host's code, at this address. */
function codeAt(url: string, { pairingUrl }: Up): string {
  return `${url}#${new URL(pairingUrl).hash.slice(1)}`;
}

/** Prompts in a new thread, and waits for the answer. */
async function prompts(phone: Phone, prompt: string): Promise<void> {
  await phone.drafts(prompt);
  await phone.taps("Start");
  await phone.sees("You are talking to the real Codex");
}

test("it pairs by the code that the host shows, a thread is begun, and all of it is there after a reload", async () => {
  const up = await starts();
  await site.allows(certificate, up.relayUrl);
  expect(up.pairingUrl.split("#")[0]?.toLowerCase()).toBe(site.url);
  const phone = await stage.unbox();
  const sockets: string[] = [];
  phone.page.on("websocket", (socket) => sockets.push(socket.url()));
  await phone.opens(up.pairingUrl);
  await phone.sees("Paired with");
  await phone.goesOn();
  await prompts(phone, "mend the shop");
  await phone.page.reload();
  await phone.sees("You are talking to the real Codex");
  expect(new URL(phone.page.url()).origin).toBe(origin);
  expect([...new Set(sockets.map((url) => new URL(url).host))]).toEqual([new URL(up.relayUrl).host]);
  await phone.page.goto(`${site.url}#/settings`);
  await phone.sees(`from ${new URL(origin).host}`);
});

test("a code that is typed there wants the relay's address with it", async () => {
  const up = await starts();
  await site.allows(certificate, up.relayUrl);
  const phone = await stage.unbox();
  await phone.page.goto(site.url);
  await phone.taps("Type a code instead");
  const command = up.command("pair", "--yes");
  await phone.page.getByLabel("Code shown by").fill(await command.says("pairing", "code"));
  const relay = phone.page.getByLabel("Relay");
  for (const wrong of ["", "not an address", `${up.relayUrl}/elsewhere`, "ftp://relay.example"]) {
    await relay.fill(wrong);
    await phone.taps(/^Pair$/);
    await phone.sees("That is no relay's address");
  }
  await phone.shoots("typed-no-relay");
  await phone.fits();
  await audits(phone, "typed-no-relay");
  await relay.fill(new URL(up.relayUrl).host);
  await phone.sees("this page comes from another server");
  await phone.shoots("typed-relay");
  await phone.taps(/^Pair$/);
  await phone.sees("Paired with");
  await command.stop("SIGTERM");
  // The next one is likely at the same.
  await phone.page.goto(`${site.url}#/code`);
  expect(await relay.inputValue()).toBe(new URL(up.relayUrl).host);
});

test("a relay that does not list the page's origin lets it in nowhere, and the page says what to do", async () => {
  const up = await starts();
  const other = await served();
  await other.allows(certificate, up.relayUrl);
  const phone = await stage.unbox({ bears: /403/ });
  await phone.opens(codeAt(other.url, up));
  await phone.sees("No way to the relay");
  await phone.sees(new URL(other.url).origin);
  await phone.sees("web_origins");
  await phone.shoots("origin-unlisted");
  await phone.fits();
  await audits(phone, "origin-unlisted");
  // The code is as good as before, where it leads to.
  await site.allows(certificate, up.relayUrl);
  await phone.opens(up.pairingUrl);
  await phone.sees("Paired with");
});

test("a server whose policy does not name the relay keeps its page from it, and the page says what to do", async () => {
  const up = await starts();
  await site.allows(certificate, up.relayUrl, []);
  const phone = await stage.unbox({ bears: BARRED });
  await phone.opens(up.pairingUrl);
  await phone.sees("No way to the relay");
  await phone.sees(`connect-src wss://${new URL(up.relayUrl).host}`);
});

test("a server that no longer lets its page connect has the host's screens say what to do", async () => {
  const up = await starts();
  await site.allows(certificate, up.relayUrl);
  const phone = await stage.unbox({ bears: BARRED });
  await phone.opens(up.pairingUrl);
  await phone.sees("Paired with");
  await phone.goesOn();
  await site.allows(certificate, up.relayUrl, []);
  // The worker has the page with its policy, and looks for another one after each load.
  const says = async (): Promise<number> => {
    await phone.page.reload();
    await phone.page
      .getByText(/no way to the relay|Online/i)
      .first()
      .waitFor();
    return phone.page.getByText("web_origins").count();
  };
  await expect.poll(says, { timeout: 30_000 }).toBeGreaterThan(0);
  await phone.sees("There is no way to the relay");
  await phone.shoots("origin-threads");
  await phone.fits();
  await audits(phone, "origin-threads");
  await phone.page.goto(phone.page.url().replace(/$/, "/connection"));
  await phone.sees("Broken");
  await phone.sees("web_origins");
  await phone.shoots("origin-connection");
  await phone.fits();
  await audits(phone, "origin-connection");
});

test("hosts of two relays are in one app, where its server allows both", async () => {
  const [one, two] = await Promise.all([starts(), starts()]);
  await site.allows(certificate, one.relayUrl, [one.relayUrl, two.relayUrl]);
  const phone = await stage.unbox();
  for (const up of [one, two]) {
    await phone.opens(up.pairingUrl);
    await phone.sees("Paired with");
    await phone.goesOn();
    await prompts(phone, "mend the shop");
  }
  await phone.page.goto(`${site.url}#/hosts`);
  await expect.poll(() => phone.page.getByText("Online").count(), { timeout: 30_000 }).toBe(2);
  expect(phone.links).toBe(2);
});

test("the page of a relay connects to that one alone, and says where a host of another one is paired", async () => {
  const [one, two] = await Promise.all([starts(), starts()]);
  const phone = await stage.unbox({ bears: BARRED });
  await phone.opens(codeAt(`${one.relayUrl}/`, two));
  await phone.sees("No way to the relay");
  await phone.sees("may connect to that one alone");
  await phone.sees(new URL(two.relayUrl).origin);
  await phone.shoots("origin-of-another-relay");
});
