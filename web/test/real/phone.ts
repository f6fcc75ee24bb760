/** A device in this process: paired, its keys in IndexedDB in memory, and able to make links. */
import "fake-indexeddb/auto";
import { equal } from "../../src/bytes";
import { linkToHost } from "../../src/link/host";
import type { Link } from "../../src/link/link";
import { join } from "../../src/pairing/join";
import { Origin } from "../../src/pairing/origin";
import { PairingUrl } from "../../src/pairing/url";
import { Database } from "../../src/store/database";
import { HostStore, type StoredHost } from "../../src/store/hosts";

const ignore = (): void => undefined;

export class Phone {
  readonly host: StoredHost;
  readonly #signal: AbortSignal;

  private constructor(host: StoredHost, signal: AbortSignal) {
    this.host = host;
    this.#signal = signal;
  }

  /** Pairs by this URL, and reads the host from storage as after a reload. `signal` ends every connection. */
  static async pair(text: string, signal: AbortSignal): Promise<Phone> {
    const database = new Database();
    const store = new HostStore(database);
    const setup = { name: "phone", platform: "test", store, show: ignore, signal, storage: undefined };
    const { host } = await join({ type: "url", url: PairingUrl.parse(text) }, setup);
    await database.close();
    const kept = await new HostStore(new Database()).read(host.id);
    if (kept === null) {
      throw new Error("the host was not kept");
    }
    return new Phone(kept, signal);
  }

  /** Makes a link over the relay at this address. Rejects with `LinkError`. */
  link(url: string): Promise<Link> {
    const admits = (key: Uint8Array): boolean => this.host.relays.some((relay) => equal(relay.key, key));
    const target = { origin: Origin.parse(url), admits, signal: this.#signal };
    return linkToHost(target, this.host.keys, ignore);
  }
}
