/** Somebody at another device of the host, who has Codex do things while a phone looks on. */
import { vi } from "vitest";
import { Codex } from "../../src/host/codex";
import { RemoteHost } from "../../src/host/remote";
import { type Json, json, text } from "../../src/json";
import { PairingUrl } from "../../src/pairing/url";
import type { StoredHost } from "../../src/store/hosts";
import { TestPage } from "../link/page";
import { pair } from "../real/phone";
import type { Up } from "../real/up";

export class Desk {
  readonly #remote: RemoteHost;
  readonly #codex: Codex;

  private constructor(remote: RemoteHost, codex: Codex) {
    [this.#remote, this.#codex] = [remote, codex];
  }

  /** Pairs with the host, under this name, and waits until Codex answers there. */
  static async at(up: Pick<Up, "command">, name?: string): Promise<Desk> {
    const command = up.command("pair", "--yes");
    let host: StoredHost;
    try {
      host = await pair({ type: "url", url: PairingUrl.parse(await command.says("pairing", "url")) }, [], name);
      await command.says("paired", "device_id");
    } finally {
      await command.stop("SIGTERM");
    }
    const remote = new RemoteHost(host, {
      page: new TestPage(),
      read: {},
      notified: () => undefined,
      missed: () => undefined,
      learned: () => undefined,
    });
    const ready = async (): Promise<boolean> =>
      (await remote.api.request("environment/list", {})).data.every(({ state }) => state === "ready");
    await vi.waitUntil(ready, { timeout: 30_000, interval: 50 });
    return new Desk(remote, Codex.open(remote.session, "local"));
  }

  /** Asks Codex. */
  asks(method: string, params: Json): Promise<Json> {
    return this.#codex.request(method, params);
  }

  /** Has a new thread begun in this folder with this prompt; gives its id. */
  async begins(folder: string, prompt: string): Promise<string> {
    const { thread } = await this.asks("thread/start", { cwd: folder });
    const id = text(json(thread).id);
    await this.prompts(id, prompt);
    return id;
  }

  /** Prompts in a thread. */
  async prompts(thread: string, prompt: string): Promise<void> {
    await this.asks("turn/start", { threadId: thread, input: [{ type: "text", text: prompt }] });
  }

  /** Has a turn go on that was told to `@wait`, with a thread of its own in this folder. */
  async lets(folder: string): Promise<void> {
    await this.begins(folder, "@go");
  }

  /** Has a new thread begun, and waits until its turn is done; gives its id. */
  async finishes(folder: string, prompt: string): Promise<string> {
    const thread = await this.begins(folder, prompt);
    const isDone = async (): Promise<boolean> =>
      (await this.#remote.api.request("attention/list", { environment: "local" })).data.some(
        ({ threadId, state }) => threadId === thread && state === "done",
      );
    await vi.waitUntil(isDone, { timeout: 30_000, interval: 50 });
    return thread;
  }

  /** What Codex said last in this thread. */
  async said(threadId: string): Promise<string> {
    const { items } = await this.#remote.api.request("thread/page", { environment: "local", threadId });
    return text(items.find(({ item }) => item.type === "agentMessage")?.item.text);
  }

  /** What the host has in its list. */
  async titles(archived = false): Promise<readonly string[]> {
    const { data } = await this.#remote.api.request("thread/list", { environment: "local", archived });
    return data.map(({ title }) => title);
  }

  async leaves(): Promise<void> {
    this.#codex.close();
    await this.#remote.end();
  }
}
