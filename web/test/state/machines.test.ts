/** The machines of a host's SSH configuration, of a host that answers by hand. */
import { beforeEach, expect, test, vi } from "vitest";
import { ApiClient } from "../../src/api/client";
import type { SshHostInfo } from "../../src/api/types";
import { type Bytes, utf8 } from "../../src/bytes";
import { type Json, json, text } from "../../src/json";
import { type Machine, Machines, machinesOf } from "../../src/state/machines";
import { changeFault, changeOf, changeWords, meaningWords, unreadWords } from "../../src/views/machinewords";

const DEVBOX: SshHostInfo = { alias: "devbox", user: "ada", hostName: "192.0.2.7", port: 22, added: false };
const LAB: SshHostInfo = { alias: "lab", user: "ada", hostName: "lab", port: 22, added: true };

/** A host with these machines. What is asked of it waits until the test answers it. */
class Host {
  readonly asked: { readonly what: string; readonly answer: (answer: Json) => void }[] = [];
  readonly api: ApiClient;
  readonly machines: Machines;

  constructor() {
    this.api = new ApiClient(
      (bytes) => {
        this.#take(bytes);
      },
      {
        notified: (notification) => {
          this.machines.notified(notification);
        },
        missed: () => {
          this.machines.missed();
        },
      },
    );
    this.machines = new Machines(this.api);
  }

  #take(bytes: Bytes): void {
    const { id, method, params } = json(JSON.parse(new TextDecoder().decode(bytes)));
    const what = [text(method), text(json(params).alias)].filter(Boolean).join(" ");
    this.asked.push({
      what,
      answer: (answer) => {
        this.#say({ id, ...answer });
      },
    });
  }

  #say(message: Json): void {
    this.api.message(utf8(JSON.stringify(message)), () => undefined);
  }

  notify(method: string, params: Json): void {
    this.#say({ method, params });
  }

  /** What was asked and has no answer. */
  get waiting(): readonly string[] {
    return this.asked.map(({ what }) => what);
  }

  /** Answers what was asked first of these words. */
  async answers(what: string, answer: Json): Promise<void> {
    const found = await vi.waitUntil(() => this.asked.find((asked) => asked.what === what));
    this.asked.splice(this.asked.indexOf(found), 1);
    found.answer(answer);
    await settled();
  }

  lists(...data: readonly SshHostInfo[]): Promise<void> {
    return this.answers("ssh/list", { result: { data } });
  }

  refuses(what: string, message: string, reason = "environment"): Promise<void> {
    return this.answers(what, { error: { code: -32010, message, data: { reason, params: {} } } });
  }

  /** The names of those that are added; `null` while none were read. */
  get added(): readonly string[] | null {
    return this.machines.view.value.machines?.filter(({ added }) => added).map(({ alias }) => alias) ?? null;
  }

  get changing(): readonly string[] {
    return [...this.machines.view.value.changing.keys()];
  }

  get faults(): readonly (readonly [string, boolean])[] {
    return [...this.machines.view.value.faults].map(([alias, { lost }]) => [alias, lost]);
  }
}

/** Lets what follows an answer be done. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 10; turns++) {
    await Promise.resolve();
  }
}

let host: Host;

beforeEach(async () => {
  host = new Host();
  void host.machines.look();
  await host.lists(DEVBOX, LAB);
});

test("files that the host could not read are told until it can", async () => {
  const unread = ["“/home/ada/.ssh/lab”: Permission denied"];
  expect(host.machines.view.value.unread).toEqual([]);
  void host.machines.look();
  await host.answers("ssh/list", { result: { data: [{ ...LAB }], unread } });
  expect(host.machines.view.value.unread).toEqual(unread);
  expect(unread.map(unreadWords)[0]).toMatch(/Machines may be missing.*lab”: Permission denied/u);
  void host.machines.look();
  await host.refuses("ssh/list", "can't read the configuration");
  expect(host.machines.view.value.unread).toEqual([]);
  void host.machines.look();
  await host.lists(DEVBOX, LAB);
  expect(host.machines.view.value.unread).toEqual([]);
});

test("a machine is added and taken back, and shows so by the host's answer alone", async () => {
  const added = host.machines.add("devbox");
  expect([host.changing, host.added]).toEqual([["devbox"], ["lab"]]);
  await host.answers("ssh/add devbox", { result: { name: "ssh:devbox", state: "idle" } });
  expect([await added, host.changing, host.added]).toEqual([true, [], ["devbox", "lab"]]);
  const removed = host.machines.remove("devbox");
  await host.answers("ssh/remove devbox", { result: {} });
  expect([await removed, host.changing, host.added]).toEqual([true, [], ["lab"]]);
});

test("a second touch asks nothing, while another machine has its turn", async () => {
  void host.machines.add("devbox");
  expect(await host.machines.add("devbox")).toBe(false);
  expect(await host.machines.remove("devbox")).toBe(false);
  void host.machines.remove("lab");
  expect(host.waiting).toEqual(["ssh/add devbox", "ssh/remove lab"]);
  await host.answers("ssh/remove lab", { result: {} });
  expect([host.changing, host.added]).toEqual([["devbox"], []]);
});

test("what the host refuses stands with its machine until it is tried again, or a person looks again", async () => {
  const added = host.machines.add("devbox");
  await host.refuses("ssh/add devbox", "there are as many as there may be", "busy");
  expect([await added, host.added, host.faults]).toEqual([false, ["lab"], [["devbox", false]]]);
  expect(host.machines.view.value.faults.get("devbox")?.message).toBe("there are as many as there may be");
  void host.machines.add("devbox");
  expect(host.faults).toEqual([]);
  await host.refuses("ssh/add devbox", "no");
  expect(host.faults).toEqual([["devbox", false]]);
  void host.machines.look();
  expect(host.faults).toEqual([]);
});

test("an answer that is lost has the machines read again, which says whether it was done", async () => {
  for (const [isDone, faults] of [
    [true, []],
    [false, [["devbox", true]]],
  ] as const) {
    const added = host.machines.add("devbox");
    host.api.lost();
    await settled();
    expect(host.changing).toEqual(["devbox"]);
    // What was asked before is given up, and answered all the same.
    while (host.waiting.includes("ssh/list")) {
      await host.lists({ ...DEVBOX, added: isDone }, LAB);
    }
    expect([await added, host.changing, host.faults]).toEqual([isDone, [], faults]);
    expect(host.added).toEqual(isDone ? ["devbox", "lab"] : ["lab"]);
    host.asked.length = 0;
  }
});

test("what another device does shows, also where the list that comes then is older", async () => {
  host.notify("environment/changed", { name: "ssh:devbox", state: "idle" });
  host.notify("environment/removed", { name: "ssh:lab" });
  // It ends with that, which may be told after it.
  host.notify("environment/changed", { name: "ssh:lab", state: "stopped" });
  host.notify("environment/changed", { name: "local", state: "ready" });
  expect(host.added).toEqual(["devbox"]);
  void host.machines.look();
  host.notify("environment/removed", { name: "ssh:devbox" });
  await host.lists({ ...DEVBOX, added: true }, { ...LAB, added: false });
  expect(host.added).toEqual([]);
});

test("a configuration that can't be read says why, and is read again when somebody wants it", async () => {
  void host.machines.look();
  await host.refuses("ssh/list", "can't read the configuration");
  expect(host.machines.view.value).toMatchObject({ machines: null, fault: "can't read the configuration" });
  void host.machines.look();
  await host.lists();
  expect(host.machines.view.value).toMatchObject({ machines: [], fault: null });
});

test("what is asked when the host loses the session is asked anew, and whoever left hears nothing", async () => {
  void host.machines.look();
  host.asked.length = 0;
  host.api.lost();
  await host.lists(LAB);
  expect([host.added, host.machines.view.value.fault]).toEqual([["lab"], null]);
  void host.machines.look();
  host.machines.close();
  await host.lists(DEVBOX);
  expect([host.added, host.machines.view.value.fault]).toEqual([["lab"], null]);
});

test("machines that were added and are named no more come after the others, and can be taken back alone", () => {
  const all = machinesOf([DEVBOX, LAB], ["local", "ssh:lab", "ssh:old"]);
  expect(all.map(({ alias, added, named }) => [alias, added, named])).toEqual([
    ["devbox", false, true],
    ["lab", true, true],
    ["old", true, false],
  ]);
  expect(all.map(changeOf)).toEqual(["add", "remove", "remove"]);
  expect(all.map((machine) => meaningWords(machine, true)).at(-1)).toMatch(/does not name it any more/);
  // Where the configuration can't be read, nobody knows.
  expect(machinesOf(null, ["local", "ssh:lab"]).map((machine) => meaningWords(machine, false))).toEqual([""]);
});

test("what a name means is told, or why it can't be; then it is not offered", () => {
  const words = (more: Partial<Machine>): string => meaningWords({ ...DEVBOX, named: true, ...more }, true);
  expect(words({})).toBe("ada@192.0.2.7:22");
  expect(words({ hostName: "2001:db8::7", port: 2222 })).toBe("ada@[2001:db8::7]:2222");
  expect(words({ hostName: "a\u202Eb" })).toBe("ada@a[U+202E right-to-left override]b:22");
  const broken: Machine = { alias: "broken", added: false, named: true, error: "ssh does not know “broken”" };
  expect([meaningWords(broken, true), changeOf(broken)]).toEqual(["ssh does not know “broken”.", null]);
  expect(changeOf({ ...broken, added: true })).toBe("remove");
});

test("what a change means is said before it is done, in words that can be typed", () => {
  expect(changeWords("devbox", "add")).toContain("`reachback ssh check devbox`");
  expect(changeWords("dev\u202Ebox", "add")).toContain("`reachback ssh check NAME`");
  expect(changeWords("devbox", "remove")).toContain("What runs there goes on");
  expect(changeFault({ lost: false, message: "the disk is full" })).toBe("The disk is full.");
  expect(changeFault({ lost: true, message: "gap" })).toMatch(/may not have been done/);
});
