/** How much the browser keeps for the app, and how firmly. */
export interface Usage {
  /** Bytes, as far as the browser says. */
  readonly bytes: number | null;
  /** Whether it stays when room gets short; `null` where the browser does not say. */
  readonly firm: boolean | null;
}

/** Asks the browser. */
export async function usageOf(storage: Pick<StorageManager, "estimate" | "persisted"> | undefined): Promise<Usage> {
  if (storage === undefined) {
    return { bytes: null, firm: null };
  }
  const [estimate, firm] = await Promise.allSettled([storage.estimate(), storage.persisted()]);
  return {
    bytes: estimate.status === "fulfilled" ? (estimate.value.usage ?? null) : null,
    firm: firm.status === "fulfilled" ? firm.value : null,
  };
}
