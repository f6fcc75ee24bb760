/** A device in this process: paired, and its keys in IndexedDB in memory. */
import "fake-indexeddb/auto";
import { type Invitation, join } from "../../src/pairing/join";
import { Database } from "../../src/store/database";
import { HostStore, type StoredHost } from "../../src/store/hosts";

/** Pairs, and reads the host from storage as after a reload. */
export async function pair(invitation: Invitation, shown: string[] = [], name = "phone"): Promise<StoredHost> {
  const database = new Database();
  const { host } = await join(invitation, {
    name,
    platform: "test",
    store: new HostStore(database),
    show: (digits) => shown.push(digits),
    signal: new AbortController().signal,
    storage: undefined,
  });
  await database.close();
  const kept = await new HostStore(new Database()).read(host.id);
  if (kept === null) {
    throw new Error("the host was not kept");
  }
  return kept;
}
