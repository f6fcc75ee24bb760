/** Asking the browser not to throw the app's data away when room gets short. */

/** What the browser said: `refused` leaves the data where it is, as long as there is room. */
export type Persistence = "kept" | "refused" | "unsupported";

/** Asks, best right after a pairing: then there are keys to lose, and browsers grant more to what is used. */
export async function persist(storage: StorageManager | undefined): Promise<Persistence> {
  if (storage === undefined || !("persist" in storage)) {
    return "unsupported";
  }
  try {
    return (await storage.persist()) ? "kept" : "refused";
  } catch {
    // Such as a page of an opaque origin.
    return "refused";
  }
}
