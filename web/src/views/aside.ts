/** What a screen is where it stands beside another one, which is the page's own. */
import { createContext } from "svelte";

/** What its parts are called. */
export interface Aside {
  readonly name: string;
  readonly top: string;
  readonly dock: string;
}

/** `null` of a screen that is the page's own. */
export const [asideHere, setAside] = createContext<Aside | null>();
