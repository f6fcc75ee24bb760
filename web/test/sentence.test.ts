/** What a host says begins as a sentence does, unless it begins with a name. */
import { expect, test } from "vitest";
import { sentence } from "../src/views/sentence";

test.each([
  ["the disk is full", "The disk is full."],
  ["it was taken back at the same moment.", "It was taken back at the same moment."],
  ["can't read “/etc/ssh/ssh_config”", "Can't read “/etc/ssh/ssh_config”."],
  ["can’t be reached", "Can’t be reached."],
  ["no home folder, so no SSH configuration", "No home folder, so no SSH configuration."],
  ["no", "No."],
])("a word of English has a capital: %s", (said, shown) => {
  expect(sentence(said)).toBe(shown);
});

test.each([
  ["ssh was not found: it says what the names in an SSH configuration mean"],
  ["ssh -G gave no host name and port"],
  ["ssh-keygen was not found"],
  ["systemd-logind lets this user keep it only from that"],
  ["npm on this computer does not fetch Codex"],
  ["codex there is not signed in"],
  ["codex's own folder is not there"],
  ["tmux is not there"],
  // A name that begins as a word does.
  ["who-am-i does not run"],
  ["all.sh does not run"],
  ["no/such/file: not found"],
  ["`model`: not there"],
  ["“devbox” is no machine"],
  ["conf.d/work: permission denied"],
  ["Codex has ended there"],
  ["éa"],
])("a name keeps its spelling: %s", (said) => {
  expect(sentence(said)).toBe(`${said}.`);
});

test("nothing at all, and what steers the screen, are no trouble", () => {
  expect(sentence("")).toBe(".");
  expect(sentence("the\u202ea")).toBe("the[U+202E right-to-left override]a.");
  expect(sentence("the \u202ea")).toBe("The [U+202E right-to-left override]a.");
});
