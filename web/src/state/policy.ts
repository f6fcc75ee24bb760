/** How far Codex goes in a new thread before it asks. The host's configuration decides that, and no device. */
import { type Json, json, text } from "../json";

/** What a new thread will be given there. */
export interface Policy {
  /** When it asks before a command. `rules`: as rules of the host's own say. */
  readonly asks: "always" | "must" | "never" | "rules";
  /** What its sandbox lets it write. `profile`: as a profile of the host's own says. */
  readonly writes: "nothing" | "folder" | "anywhere" | "profile";
}

const ASKS: Readonly<Record<string, Policy["asks"]>> = {
  untrusted: "always",
  "on-failure": "must",
  "on-request": "must",
  never: "never",
};

const WRITES: Readonly<Record<string, Policy["writes"]>> = {
  "read-only": "nothing",
  ":read-only": "nothing",
  "workspace-write": "folder",
  ":workspace": "folder",
  "danger-full-access": "anywhere",
  ":danger-full-access": "anywhere",
};

/**
 * Out of what Codex answers to `config/read` for the folder. Where it does not say, Codex asks when it must in a
 * workspace, and always elsewhere; what is no workspace is only read, whatever it says.
 */
export function policyOf(config: Json, isWorkspace: boolean): Policy {
  const { approval_policy: approval, sandbox_mode: sandbox, default_permissions: profile, permissions } = config;
  const unset = isWorkspace ? "must" : "always";
  const asks = approval == null ? unset : (ASKS[text(approval)] ?? "rules");
  // The agent's own profile stands for the one that it extends.
  const base = text(sandbox) || text(json(json(permissions)[text(profile)]).extends) || text(profile);
  return { asks, writes: isWorkspace ? (WRITES[base] ?? "profile") : "nothing" };
}
