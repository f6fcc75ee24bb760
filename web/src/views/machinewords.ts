/** What the screens say of the machines that a host's SSH configuration names. */
import type { Machine, MachineChange, MachineFault } from "../state/machines";
import { visibleLine } from "../visible";
import { shellWord } from "./folderwords";
import { sentence } from "./sentence";

/** How a host's SSH configuration names a machine. */
export const EXAMPLE = "Host devbox\n  HostName devbox.example.com\n  User ada";

/** What a machine's name means, or why that can't be said. `known`: whether the configuration was read. */
export function meaningWords({ user, hostName, port, error, named }: Machine, known: boolean): string {
  if (error !== undefined) {
    return sentence(error);
  }
  if (hostName === undefined) {
    return named || !known ? "" : "The host's SSH configuration does not name it any more.";
  }
  const host = hostName.includes(":") ? `[${hostName}]` : hostName;
  const address = port === undefined ? host : `${host}:${port}`;
  return visibleLine(user === undefined ? address : `${user}@${address}`);
}

/** That a file of the configuration was not read, and why. */
export function unreadWords(file: string): string {
  return `Machines may be missing: the host can't read a file that its SSH configuration includes. ${sentence(visibleLine(file))}`;
}

/** What can be done with a machine; `null` where that is nothing. */
export function changeOf({ added, error }: Machine): MachineChange | null {
  if (added) {
    return "remove";
  }
  return error === undefined ? "add" : null;
}

/** What that means, as it is asked before it is done. Between backquotes is what one types. */
export function changeWords(alias: string, change: MachineChange): string {
  const word = shellWord(alias, "NAME");
  return change === "add"
    ? `Your devices then see it, as \`ssh:${word}\`, and the host logs in there as you would with \`ssh ${word}\`. ` +
        `A machine whose key is new has to be accepted at the host: \`reachback ssh check ${word}\``
    : "What your devices have open there closes, and the folders that were opened there are closed to them. " +
        "What runs there goes on.";
}

/** Why something was not done. */
export function changeFault({ lost, message }: MachineFault): string {
  return lost
    ? "No answer came, so it may not have been done. How the machine is now was asked anew: do it again if need be."
    : sentence(message);
}
