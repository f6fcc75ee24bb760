import { Later } from "../later";

/** Every place of the app but the welcome, and what they stand on, once their script is there. */
export const PLACES = new Later(() => import("./placed"));
