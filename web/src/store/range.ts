/** Ranges of keys. */

/** All rows of a host, in a store whose keys begin with it. */
export function ofHost(host: string): IDBKeyRange {
  // A list is more than any text.
  return IDBKeyRange.bound([host], [host, []]);
}
