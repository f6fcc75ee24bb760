/** What a host says, as a sentence of its own. */
import { visibleLine } from "../visible";

/**
 * Words of English that a host's sentences begin with, and which are no names. What else stands there may be a program,
 * a file or a parameter, which reads `ssh`, `npm` or `model` wherever it stands: it keeps its spelling.
 */
const ENGLISH = new Set(
  (
    "a about after all an another any are as at because before being both by can can't cannot could couldn't devices did " +
    "didn't do does doesn't don't each either every everything for from had has hasn't have here how if in is isn't it " +
    "its keys may messages more most must neither no nobody none not nothing of on once one only or other others some " +
    "somebody something such that the their there these they this those to too two unknown until was wasn't were what " +
    "whatever when where whether which while who whoever whose why will with without won't you your"
  ).split(" "),
);

/** `message` with a full stop, and with a capital where it begins with a word that may have one. */
export function sentence(message: string): string {
  const words = visibleLine(message).replace(/\.$/, "");
  const [first = ""] = /^[a-z]+(?:['’][a-z]+)?(?=[\s,:;]|$)/.exec(words) ?? [];
  const begins = ENGLISH.has(first.replace("’", "'")) ? words.charAt(0).toUpperCase() : words.charAt(0);
  return `${begins}${words.slice(1)}.`;
}
