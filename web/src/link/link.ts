/** A link as the session's driver sees it: records both ways, in order, until it ends. */
import type { Bytes } from "../bytes";

export interface Link {
  /**
   * Seals these plaintexts, each at most a record, and sends them as one message. They go out in the order of the calls.
   * Resolves once there is room for more. Rejects with a `LinkError` when the link has ended, and so does `receive` then.
   */
  send(plaintexts: readonly Bytes[]): Promise<void>;
  /**
   * The plaintexts that came next, at least one, for one caller at a time. Rejects with a `LinkError` once the link has
   * ended and all that came before is given out.
   */
  receive(): Promise<readonly Bytes[]>;
  /** Ends the link, once what was sent is out. */
  close(): void;
}
