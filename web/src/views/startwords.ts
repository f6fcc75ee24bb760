/** What the screens say of a thread that is being begun. */
import type { Receipt } from "../api/types";
import type { Policy } from "../state/policy";
import type { Progress, PromptFault } from "../state/prompt";
import type { StartRow } from "../store/schema";
import { sentence } from "./sentence";
import { timeOf } from "./words";

/** How far it is: dots that are full, out of three, and words. `name` is how its host is called in a sentence. */
export function progressWords(
  progress: Exclude<Progress, { at: "draft" }>,
  at: { readonly sending: boolean; readonly name: string; readonly now: number },
): { readonly dots: number; readonly text: string } {
  const { name } = at;
  switch (progress.at) {
    case "keeping":
      return { dots: 0, text: "Being kept on this device" };
    case "held": {
      const held = `Held on this device ${timeOf(progress.since, at.now)}`;
      return { dots: 1, text: at.sending ? "Sending" : held };
    }
    case "taken":
      return { dots: 2, text: `Taken by ${name} ${timeOf(progress.since, at.now)}` };
    case "started":
      return { dots: 3, text: `${STARTED[progress.how]} ${timeOf(progress.since, at.now)}` };
    case "doubt":
      return { dots: 1, text: `${name} can't say if this arrived` };
  }
}

/** What became of a message that Codex has. */
const STARTED = { began: "Turn started", steered: "Steered the turn", queued: "Queued" } as const;

/** The same of a message that the thread shows, by the host's word; `null` where there is nothing to say. */
export function receiptWords(receipt: Receipt | undefined, now: number): string | null {
  if (receipt?.state !== "started" && receipt?.state !== "queued") {
    return null;
  }
  const how = receipt.state === "queued" ? "queued" : receipt.steered ? "steered" : "began";
  return `${STARTED[how]}${receipt.changedAt === undefined ? "" : ` ${timeOf(receipt.changedAt, now)}`}`;
}

/** How far Codex goes before it asks, as the host's configuration has it. */
export const POLICY_WORDS: { readonly [K in keyof Policy]: Readonly<Record<Policy[K], string>> } = {
  asks: { always: "always", must: "when it must", never: "never", rules: "as the host's own rules say" },
  writes: {
    nothing: "nothing",
    folder: "this folder",
    anywhere: "anywhere",
    profile: "what the host's own profile says",
  },
};

/** What there is to say of the folder that was chosen, and whether a thread can begin there; `closed`: why not, there. */
export function folderWords(
  { folder, untrusted = false }: Pick<StartRow, "folder" | "untrusted">,
  at: {
    readonly isWorkspace: boolean;
    readonly browses: boolean;
    readonly closed: string | null;
    readonly awaited?: boolean;
  },
): { readonly isOpen: boolean; readonly says: string } {
  if (folder !== null && at.closed !== null) {
    return { isOpen: false, says: `${at.closed} Or choose another folder.` };
  }
  if (at.awaited === true && !at.isWorkspace) {
    return { isOpen: false, says: folder === null ? "" : "Its machine is asked whether it is open." };
  }
  if (folder === null || at.isWorkspace) {
    return { isOpen: at.isWorkspace, says: "" };
  }
  if (!at.browses) {
    return { isOpen: false, says: "It is not open to this device: choose a workspace." };
  }
  return untrusted
    ? { isOpen: true, says: "Untrusted: its own Codex settings and tools stay off." }
    : { isOpen: false, says: "It is no workspace any more: choose another one, or look for it to use it untrusted." };
}

const STEPS: Readonly<Record<string, string>> = {
  scope: "The host's owner lets this device prompt: `reachback devices scope`.",
  folder: "Choose another folder, or have the host's owner open this one: `reachback workspace add`.",
  environment: "Choose another folder.",
  model: "Choose the host's default.",
  busy: "Too much waits there. Start again a little later.",
  disk: "The host can't write to its disk: make room there, then start again.",
  codex: "Look at `reachback status` there, then start again.",
  store: "Copy the text, so that it is not lost.",
  ended: "It is looked for again with the next session.",
  revoked: "Pair again, then start again.",
};

/** Parameters of Codex's that a prompt is refused for, and what of STEPS helps then. */
const CHOSEN: Readonly<Record<string, string>> = { cwd: "folder", model: "model" };

/** The same for a message to a thread that is there. */
const MESSAGE_STEPS: Readonly<Record<string, string>> = {
  ...STEPS,
  folder: "Have the host's owner open this thread's folder: `reachback workspace add`.",
  environment: "Look on the host's page how its machines are.",
  model: "Begin another thread, with another model.",
  busy: "Too much waits there. Send it a little later.",
  disk: "The host can't write to its disk: make room there, then send it again.",
  codex: "Look at `reachback status` there, then send it again.",
  turn: "That turn is over: send it again.",
  too_late: "It has started, or is about to.",
  revoked: "Pair again, then send it again.",
};

/** What was wrong with a message to a thread that is there, and what comes next. */
export function messageFaultWords(fault: PromptFault): { readonly what: string; readonly next: string } {
  return faultWords(fault, MESSAGE_STEPS, "Your text is still here: change it, or send it again.");
}

/** What was wrong, and what comes next. */
export function faultWords(
  { reason, message }: PromptFault,
  steps = STEPS,
  otherwise = "Your text is still here: change it, or start again.",
): { readonly what: string; readonly next: string } {
  // The host's firewall names the parameter at the head of its sentence.
  const [named = "", parameter = ""] = /^`(\w+)`: /.exec(message) ?? [];
  const chosen = CHOSEN[parameter];
  const next = steps[chosen ?? reason] ?? otherwise;
  return { what: sentence(chosen === undefined ? message : message.slice(named.length)), next };
}
