/** A host in memory whose Codex and whose API answer as a test says, and a device that is connected with it. */
import { encode } from "../../src/base32";
import { utf8 } from "../../src/bytes";
import { RemoteHost } from "../../src/host/remote";
import { type Json, json } from "../../src/json";
import { storedHost } from "../../src/store/hosts";
import type { ChannelCloseReason } from "../../src/wire/reason";
import { FakeHost } from "../link/fake";
import { TestPage } from "../link/page";

/** What came on a channel. */
export type Take = (channel: number, message: Json) => void;

/** See the module's header. It answers by itself who it is (`host/read`), and what each channel begins with. */
export class ScriptedHost {
  /** What is done with everything else. */
  take: Take = () => undefined;
  readonly remote: RemoteHost;
  readonly #host: FakeHost;

  private constructor(host: FakeHost, remote: RemoteHost) {
    [this.#host, this.remote] = [host, remote];
    host.consume = (channel, bytes) => {
      this.#take(channel, json(JSON.parse(new TextDecoder().decode(bytes))));
    };
  }

  static async create(): Promise<ScriptedHost> {
    const host = await FakeHost.create();
    const { create, origin } = host.target();
    const stored = await storedHost(
      { name: "tower", relays: [{ key: host.relayKey, origin }], scope: "steer" },
      host.keys,
      1,
    );
    const remote = new RemoteHost(stored, {
      page: new TestPage(),
      rests: false,
      read: {},
      notified: () => undefined,
      missed: () => undefined,
      learned: () => undefined,
      ...(create && { create }),
    });
    return new ScriptedHost(host, remote);
  }

  #take(channel: number, message: Json): void {
    const { id, method } = message;
    if (method === "host/read") {
      const relays = [{ url: "https://relay.example:443", key: encode(this.#host.relayKey) }];
      this.say(channel, { id, result: { hostName: "tower", relays, scope: "steer" } });
    } else if (method === "initialize") {
      this.say(channel, { id, result: {} });
    } else if (id !== undefined) {
      this.take(channel, message);
    }
  }

  say(channel: number, message: Json): void {
    this.#host.session.send(channel, utf8(JSON.stringify(message)));
  }

  /** The host ends a channel. */
  closes(channel: number, reason: (typeof ChannelCloseReason)[keyof typeof ChannelCloseReason], text: string): void {
    this.#host.session.closeChannel(channel, reason, text);
  }
}
