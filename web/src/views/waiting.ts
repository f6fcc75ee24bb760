/** What waits for a person, for screens that only say how much that is. */
import { createContext } from "svelte";
import type { Inbox } from "../state/inbox";

export const [waitingHere, setWaiting] = createContext<Inbox["view"]>();
