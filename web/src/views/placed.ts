/** What somebody new needs none of before the first touch, in one script: every place but the welcome, links and pairing. */
export { JoinError } from "../pairing/error";
export { PERSON_TIMEOUT, join } from "../pairing/join";
export { asksOf, reach } from "../state/reach";
export { default as Places } from "./Places.svelte";
