import { Later } from "../later";

/** What opens from the lists of hosts and threads. */
export type Parts = typeof import("./opened");

/** The pages that open from the lists of hosts and threads, once their script is there. */
export const OPENED = new Later<Parts>(() => import("./opened"));
