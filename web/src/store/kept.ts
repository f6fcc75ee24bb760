import { Database } from "./database";
import { HostStore } from "./hosts";

/** What this browser keeps of the app, where hosts are read already. */
export interface Kept {
  readonly database: Database;
  readonly hosts: HostStore;
}

/** Opens what this browser keeps, and begins to read the hosts: that takes as long as a part of the app on its way. */
export function openKept(): Kept {
  const database = new Database();
  const hosts = new HostStore(database);
  hosts.readAhead();
  return { database, hosts };
}
