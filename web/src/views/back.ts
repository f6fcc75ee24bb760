import type { Route } from "../state/route";

/** Where one goes back to from a screen, and how that is shown and read out. */
export interface Back {
  readonly to: Route;
  readonly label: string;
  readonly icon: "back" | "close";
}
