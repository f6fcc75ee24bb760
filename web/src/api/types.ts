// Written by `cargo xtask gen` from host-agent/src/agent/api/. What each member means: docs/api.md.
/* eslint-disable @typescript-eslint/array-type, @typescript-eslint/consistent-type-definitions */

import type { Scope } from "../scope";

/**
 * How Codex's account is.
 */
export type Account = {
  state: AccountState;
  /**
   * While it is signed in: `chatgpt`, `apiKey` or another word of Codex.
   */
  type?: string;
  /**
   * The plan of a ChatGPT account, in Codex's word, such as `pro`.
   */
  plan?: string;
};

export type AccountState = "signedIn" | "signedOut" | "notNeeded";

export type AllowDevicesParams = { allowed: boolean };

export type AnswerSendParams = {
  environment: string;
  instance: string;
  requestId: string | number;
  threadId: string;
  turnId?: string;
  itemId?: string;
  /**
   * Of what was shown, in hex.
   */
  digest: string;
  /**
   * Milliseconds since the person decided, by the device's clock.
   */
  age: number;
  /**
   * When that was by the host's clock, in milliseconds since 1970: `now` of `host/read`, and what has passed since. On its way an
   * answer may wait for a link; the older of both counts.
   */
  decidedAt?: number;
  /**
   * As Codex takes it; or `error`.
   */
  result?: unknown;
  error?: unknown;
};

export type AnswerSendResult = {
  /**
   * What went to Codex.
   */
  decision: Choice;
  /**
   * Why that is less than what was said, in words.
   */
  lessened?: string;
};

/**
 * A refusal, as a JSON-RPC error object.
 */
export type ApiError = {
  /**
   * JSON-RPC's number for it.
   */
  code: number;
  /**
   * One sentence in English, for a person.
   */
  message: string;
  data: ApiErrorData;
};

/**
 * What a program needs to say it in its own words.
 */
export type ApiErrorData = {
  reason: ApiErrorReason;
  /**
   * What the message names.
   */
  params: Record<string, string | number>;
};

/**
 * Stable words: a client translates these.
 */
export type ApiErrorReason =
  | "malformed"
  | "method"
  | "scope"
  | "params"
  | "environment"
  | "folder"
  | "device"
  | "slow"
  | "disk"
  | "busy"
  | "conflict"
  | "too_late"
  | "codex"
  | "instance"
  | "answered"
  | "digest"
  | "age"
  | "at_the_host"
  | "login";

/**
 * How a thread is now.
 */
export type AttentionChanged = AttentionInfo | AttentionGone;

/**
 * A thread of which there is nothing to be said any more.
 */
export type AttentionGone = {
  environment: string;
  threadId: string;
  /**
   * Null.
   */
  state: null;
};

/**
 * A thread that runs, wants somebody, or has ended since.
 */
export type AttentionInfo = {
  environment: string;
  threadId: string;
  /**
   * Where somebody named it.
   */
  name?: string;
  folder: string;
  state: AttentionState;
  /**
   * Milliseconds since 1970, by the host's clock.
   */
  since: number;
  turnId?: string;
  /**
   * What is asked in it, oldest first; left out where that is nothing.
   */
  requestIds?: Array<string | number>;
  /**
   * What Codex says about a failure.
   */
  error?: string;
};

export type AttentionListParams = {
  /**
   * Only threads there.
   */
  environment?: string;
};

export type AttentionListResult = {
  /**
   * Newest first.
   */
  data: Array<AttentionInfo>;
};

/**
 * How a thread is that somebody may want to look at.
 */
export type AttentionState = "waitingOnApproval" | "waitingOnAnswer" | "running" | "done" | "failed" | "interrupted";

/**
 * What an answer says, in one word.
 */
export type Choice = "accept" | "acceptForLonger" | "decline" | "cancel" | "answer";

/**
 * Whose app-server a backend speaks to.
 */
export type CodexAdapter = "attached" | "started";

/**
 * How Codex is.
 */
export type CodexInfo = {
  state: CodexState;
  /**
   * While it is ready, where it is known.
   */
  version?: string;
  /**
   * While it is ready.
   */
  adapter?: CodexAdapter;
  /**
   * Whether it is signed in; while it is ready, once it has said so.
   */
  account?: Account;
  /**
   * What is wrong with it although it answers; absent where nothing is.
   */
  troubles?: Array<Trouble>;
  /**
   * Why it failed, for a person.
   */
  reason?: string;
  /**
   * What the owner does about it, where that is known.
   */
  fix?: string;
  /**
   * What a program can do about it, where it can.
   */
  code?: FailureCode;
};

export type CodexState = "idle" | "starting" | "ready" | "failed" | "stopped";

/**
 * When a prompt runs.
 */
export type Delivery = "start" | "steer" | "queue";

/**
 * A device as it is now.
 */
export type DeviceChanged = {
  deviceId: string;
  /**
   * `null` once it was revoked.
   */
  device: DeviceInfo | null;
  /**
   * Whether devices may connect at all.
   */
  allowed: boolean;
};

export type DeviceInfo = {
  deviceId: string;
  name: string;
  /**
   * What it said it is, such as "iPhone, Safari".
   */
  platform: string;
  scope: Scope;
  /**
   * Kept out for now: it alone, or all devices.
   */
  paused: boolean;
  /**
   * Paused because it was not seen for long.
   */
  expired: boolean;
  /**
   * Paused because the relay knows it as revoked.
   */
  revokedAtRelay: boolean;
  /**
   * RFC 3339.
   */
  addedAt: string;
  /**
   * RFC 3339.
   */
  lastSeen: string;
  connected: boolean;
};

export type DeviceListResult = {
  /**
   * Oldest first.
   */
  data: Array<DeviceInfo>;
  /**
   * Whether devices may connect at all.
   */
  allowed: boolean;
};

export type DevicePauseParams = { deviceId: string; paused: boolean };

export type DeviceRevokeParams = { deviceId: string };

export type DeviceScopeParams = { deviceId: string; scope: Scope };

/**
 * It was done.
 */
export type Done = Record<symbol, never>;

/**
 * One place where devices work.
 */
export type EnvironmentInfo = {
  /**
   * What a channel names to be opened there.
   */
  name: string;
  /**
   * The most that any device may do there, whatever its own scope; absent where there is no such bound.
   */
  maxScope?: Scope;
  /**
   * Why there is one, for a person.
   */
  maxScopeReason?: string;
  state: CodexState;
  /**
   * While it is ready, where it is known.
   */
  version?: string;
  /**
   * While it is ready.
   */
  adapter?: CodexAdapter;
  /**
   * Whether it is signed in; while it is ready, once it has said so.
   */
  account?: Account;
  /**
   * What is wrong with it although it answers; absent where nothing is.
   */
  troubles?: Array<Trouble>;
  /**
   * Why it failed, for a person.
   */
  reason?: string;
  /**
   * What the owner does about it, where that is known.
   */
  fix?: string;
  /**
   * What a program can do about it, where it can.
   */
  code?: FailureCode;
};

export type EnvironmentList = {
  /**
   * The host's own first.
   */
  data: Array<EnvironmentInfo>;
};

/**
 * An environment that is not there any more.
 */
export type EnvironmentRemoved = {
  /**
   * What it was called.
   */
  name: string;
};

/**
 * What is wrong with a server, where a program can help a person to mend it.
 */
export type FailureCode = "login";

export type FolderInfo = {
  name: string;
  /**
   * Its real path.
   */
  path: string;
  isWorkspace: boolean;
  /**
   * Whether a device with scope `approve` may work in it.
   */
  opens: boolean;
};

export type FolderListParams = {
  /**
   * Its name, from `environment/list`.
   */
  environment: string;
  /**
   * The folder; without it, the roots.
   */
  path?: string;
  /**
   * Whether folders whose name begins with a dot are listed, too.
   */
  hidden?: boolean;
};

export type FolderListResult = {
  /**
   * Sorted by name.
   */
  data: Array<FolderInfo>;
  /**
   * Whether there are others that were left out.
   */
  more: boolean;
};

export type HostInfo = {
  apiVersion: number;
  /**
   * What may be asked for, by name.
   */
  features: Array<string>;
  limits: Limits;
  /**
   * Milliseconds since 1970, by the host's clock.
   */
  now: number;
  hostId: string;
  hostName: string;
  /**
   * Best first.
   */
  relays: Array<RelayInfo>;
  agentVersion: string;
  /**
   * The device that asked.
   */
  deviceId: string;
  /**
   * What it may do.
   */
  scope: Scope;
  /**
   * Codex on the host itself.
   */
  codex: CodexInfo;
  /**
   * The id of the journal that receipts of prompts are from.
   */
  journal: string;
};

export type HostReadParams = {
  /**
   * The largest message that the client takes on this session, in bytes; larger answers of Codex are refused in
   * words from then on.
   */
  largestMessage?: number;
  /**
   * Whether pieces of an item's text are put together on this session, as they are before anything is said; else each
   * comes as Codex sends it.
   */
  mergedText?: boolean;
  /**
   * Whether the end of a turn comes without the turn's items on this session. Nothing else is left out: each item has
   * come when it was complete.
   */
  leanTurns?: boolean;
  /**
   * Whether text of an item that goes on comes on this session with the number of a lane, in place of what is around it.
   */
  shortText?: boolean;
  /**
   * Whether an item that is complete comes on this session without its text, where that has come with the number of a
   * lane, all of it.
   */
  shortItems?: boolean;
};

/**
 * Whether the host's computer is kept awake, as it is now.
 */
export type KeepAwakeInfo = {
  /**
   * Whether it is to be.
   */
  on: boolean;
  /**
   * Whether it is.
   */
  state: KeepAwakeState;
  /**
   * Why it is not, or not altogether, for a person.
   */
  reason?: string;
  /**
   * What one does about that, mostly at the host.
   */
  fix?: string;
};

export type KeepAwakeParams = {
  /**
   * Whether it is to be; without it, only tells how it is.
   */
  on?: boolean;
};

/**
 * Stable words: a client translates these.
 */
export type KeepAwakeState = "off" | "held" | "partly" | "onBattery" | "noAccess" | "notOffered" | "failed";

/**
 * Bytes, counts and seconds.
 */
export type Limits = {
  /**
   * A message of a device, in bytes.
   */
  messageToHost: number;
  /**
   * A message to this device on this session, in bytes.
   */
  messageToDevice: number;
  /**
   * A request of this API, in bytes.
   */
  request: number;
  /**
   * A request with a prompt, in bytes.
   */
  prompt: number;
  /**
   * Open channels of a session.
   */
  channels: number;
  /**
   * Sessions of a device.
   */
  sessions: number;
  /**
   * For so long a session waits for its device, in seconds.
   */
  detachedSeconds: number;
};

/**
 * The parameters of a method that takes none; what a newer client sends along is left alone.
 */
export type NoParams = Record<symbol, never>;

/**
 * A notification.
 */
export type Notification =
  | { method: "host/changed"; params: HostInfo }
  | { method: "host/asleep"; params: Record<symbol, never> }
  | { method: "environment/changed"; params: EnvironmentInfo }
  | { method: "environment/removed"; params: EnvironmentRemoved }
  | { method: "workspace/changed"; params: WorkspacesChanged }
  | { method: "device/changed"; params: DeviceChanged }
  | { method: "keepAwake/changed"; params: KeepAwakeInfo }
  | { method: "prompt/changed"; params: Receipt }
  | { method: "request/opened"; params: RequestInfo }
  | { method: "request/shown"; params: RequestShown }
  | { method: "request/closed"; params: RequestClosed }
  | { method: "attention/changed"; params: AttentionChanged }
  | { method: "ssh/asked"; params: SshAsked }
  | { method: "notices/missed"; params: Record<symbol, never> };

/**
 * An item.
 */
export type PageItem = {
  turnId: string;
  /**
   * As Codex has it.
   */
  item: Record<string, unknown>;
  /**
   * It has output that was left out, to be read with Codex's `thread/items/read`.
   */
  outputDeferred?: boolean;
  /**
   * It is larger than the page: of so many bytes, `item` is `id`, `type`, and as much of its `text` as fits.
   */
  size?: number;
};

export type PromptReadParams = {
  /**
   * At most 100.
   */
  ids: string[];
};

export type PromptReadResult = {
  /**
   * The journal that this is from, as in `host/read`.
   */
  journal: string;
  /**
   * In the order that was asked for.
   */
  data: Array<Receipt>;
};

export type PromptSendParams = {
  /**
   * Made by the client, new for each prompt: letters, digits, `-` and `_`, at most 64. A UUID does.
   */
  id: string;
  environment: string;
  /**
   * The thread; or `start`.
   */
  threadId?: string;
  /**
   * Starts a thread for it: parameters of Codex's `thread/start`.
   */
  start?: Record<string, unknown>;
  delivery?: Delivery;
  /**
   * With `steer`: the turn that it is meant for, and no other.
   */
  turnId?: string;
  /**
   * Codex's input items.
   */
  input: unknown[];
};

export type PromptWithdrawParams = { id: string; environment: string };

/**
 * The sandbox and the network of a thread. What is accepted once may go beyond them.
 */
export type Reach = {
  /**
   * What may be written.
   */
  sandbox: string;
  /**
   * Whether programs have the network.
   */
  network: string;
};

/**
 * What became of a prompt.
 */
export type Receipt = {
  id: string;
  environment?: string;
  threadId?: string;
  /**
   * When the agent took it, in milliseconds since 1970 by the host's clock.
   */
  takenAt?: number;
  /**
   * When it came to its state.
   */
  changedAt?: number;
} & (
  | { state: "never" }
  | { state: "taken" }
  | { state: "queued"; queuedId: string }
  | {
      state: "started";
      turnId: string;
      /**
       * Whether the turn was running before.
       */
      steered: boolean;
    }
  | { state: "refused"; reason: string; message: string }
  | { state: "withdrawn" }
  | { state: "unknown" }
);

export type RelayInfo = { url: string; key: string };

/**
 * A request needs no answer any more.
 */
export type RequestClosed = {
  environment: string;
  instance: string;
  requestId: string | number;
  threadId: string;
  /**
   * Who answered; null, where that was at the host, or it is no longer asked.
   */
  by: Who | null;
  decision?: Choice;
};

/**
 * What Codex asks.
 */
export type RequestInfo = {
  environment: string;
  /**
   * The run of Codex that asks: its numbers begin anew with each.
   */
  instance: string;
  requestId: string | number;
  threadId: string;
  turnId?: string;
  itemId?: string;
  /**
   * Codex's name for this kind of request.
   */
  method: string;
  /**
   * When Codex asked, in milliseconds since 1970 by the host's clock.
   */
  openedAt: number;
  /**
   * For a person: labels and texts in turn. Left out where the list would be too long; ask for it alone.
   */
  shown?: Array<string>;
  /**
   * Of `shown`, in hex.
   */
  digest: string;
  /**
   * What the thread may reach, where that is known.
   */
  reach?: Reach;
  /**
   * The scope of those who may answer; none, where only the host's own terminal can.
   */
  needed?: Scope;
  /**
   * What this device may answer.
   */
  answers: Array<Choice>;
  /**
   * The devices that were shown it.
   */
  shownTo: Array<Who>;
};

export type RequestListParams = {
  /**
   * Only what is asked there.
   */
  environment?: string;
  /**
   * Only this request.
   */
  requestId?: string | number;
};

export type RequestListResult = {
  /**
   * Oldest first.
   */
  data: Array<RequestInfo>;
};

/**
 * One more device was shown a request.
 */
export type RequestShown = { environment: string; instance: string; requestId: string | number; shownTo: Array<Who> };

export type SshAnswerParams = {
  /**
   * From `ssh/asked`.
   */
  id: number;
  /**
   * One for each prompt, in their order; absent where there are none, and the login ends.
   */
  answers?: string[];
};

/**
 * A machine that is reached over SSH asks something, on the way to an environment.
 */
export type SshAsked = {
  /**
   * Of this session.
   */
  id: number;
  /**
   * Where the login leads.
   */
  environment: string;
  /**
   * `user@machine`: who asks, which may be a machine on the way.
   */
  at: string;
  says: SshWords;
  /**
   * How many are left to answer.
   */
  seconds: number;
};

/**
 * A machine that the host's SSH configuration names.
 */
export type SshHostInfo = {
  /**
   * Its name there.
   */
  alias: string;
  /**
   * Who one is there.
   */
  user?: string;
  /**
   * Where it is.
   */
  hostName?: string;
  port?: number;
  /**
   * Whether it is an environment of this host.
   */
  added: boolean;
  /**
   * Whether the owner has devices asked what it asks for beside a key; absent where not.
   */
  asksDevices?: boolean;
  /**
   * Why it can't be said what the name means, for a person.
   */
  error?: string;
};

export type SshListResult = {
  /**
   * In the order of the configuration's files.
   */
  data: Array<SshHostInfo>;
  /**
   * Included files that could not be read, each with why, for a person: machines may be missing. Absent where there are none.
   */
  unread?: Array<string>;
};

export type SshParams = {
  /**
   * A machine's name, from `ssh/list`.
   */
  alias: string;
};

export type SshPrompt = {
  words: string;
  /**
   * Whether the answer may be seen while it is typed.
   */
  echo: boolean;
};

/**
 * The machine's own words, which may say anything. They are printable, and bounded.
 */
export type SshWords = {
  name: string;
  /**
   * May have several lines.
   */
  instruction: string;
  /**
   * Each wants an answer.
   */
  prompts: Array<SshPrompt>;
};

/**
 * A thread, as a list shows it.
 */
export type ThreadInfo = {
  id: string;
  /**
   * Its name; else how its first message begins.
   */
  title: string;
  /**
   * Whether the title is a name that somebody gave it.
   */
  isNamed: boolean;
  folder: string;
  /**
   * `notLoaded`, `idle`, `active`, `systemError`.
   */
  status: string;
  /**
   * What it waits for, in Codex's words: `waitingOnApproval`, `waitingOnUserInput`.
   */
  waitingOn?: Array<string>;
  /**
   * Milliseconds since 1970, by the host's clock.
   */
  createdAt: number;
  /**
   * When something last happened in it.
   */
  changedAt: number;
  branch?: string;
  /**
   * Where it began: `cli`, `vscode`, and others of Codex's words.
   */
  source: string;
  archived: boolean;
  /**
   * Whether something in it was not read yet; left out where Codex does not know.
   */
  unread?: boolean;
};

export type ThreadListParams = {
  environment: string;
  /**
   * From the page before.
   */
  cursor?: string;
  /**
   * About how large the page may be.
   */
  bytes?: number;
  /**
   * Those that were archived, in place of the others.
   */
  archived?: boolean;
  /**
   * With this in its title.
   */
  search?: string;
  /**
   * Those of this folder alone.
   */
  folder?: string;
};

/**
 * Threads, newest first.
 */
export type ThreadListResult = {
  /**
   * Those that changed last come first.
   */
  data: Array<ThreadInfo>;
  /**
   * For the next page.
   */
  nextCursor?: string;
};

export type ThreadPageParams = {
  environment: string;
  threadId: string;
  /**
   * From the page before.
   */
  cursor?: string;
  /**
   * About how large the page may be.
   */
  bytes?: number;
  /**
   * Whether the output of commands that went well is left out.
   */
  deferOutput?: boolean;
};

/**
 * Items of a thread, newest first.
 */
export type ThreadPageResult = {
  /**
   * Newest first.
   */
  items: Array<PageItem>;
  /**
   * The turns that they are of, newest first.
   */
  turns: Array<TurnInfo>;
  /**
   * For the next page; what is new on top of this one does not change it.
   */
  nextCursor?: string;
};

/**
 * Something that its owner should see to.
 */
export type Trouble = {
  /**
   * Which one.
   */
  code: TroubleCode;
  /**
   * What it is, a sentence for a person.
   */
  message: string;
  /**
   * What the owner does about it.
   */
  fix: string;
};

/**
 * What kind of trouble it is.
 */
export type TroubleCode = "diskFull" | "upgraded";

/**
 * A turn.
 */
export type TurnInfo = {
  id: string;
  /**
   * `completed`, `interrupted`, `failed`, `inProgress`.
   */
  status: string;
  /**
   * Milliseconds since 1970, by the host's clock.
   */
  startedAt?: number;
  completedAt?: number;
};

/**
 * A device, by its id and by its name.
 */
export type Who = {
  /**
   * Its id.
   */
  deviceId: string;
  /**
   * What it calls itself.
   */
  name: string;
};

export type WorkspaceInfo = {
  path: string;
  /**
   * The last part of the path.
   */
  name: string;
  source: WorkspaceSource;
};

export type WorkspaceListParams = {
  /**
   * Its name, from `environment/list`.
   */
  environment: string;
};

export type WorkspaceListResult = {
  /**
   * Sorted by path.
   */
  data: Array<WorkspaceInfo>;
};

/**
 * Who opened a folder.
 */
export type WorkspaceSource = "owner" | "codex";

/**
 * The folders of one environment that are open now.
 */
export type WorkspacesChanged = {
  environment: string;
  /**
   * Sorted by path.
   */
  data: Array<WorkspaceInfo>;
};

/** Each method: who may call it, what it takes, what it says. */
export type Methods = {
  "host/read": { scope: "view"; params: HostReadParams; result: HostInfo };
  "environment/list": { scope: "view"; params: NoParams; result: EnvironmentList };
  "workspace/list": { scope: "view"; params: WorkspaceListParams; result: WorkspaceListResult };
  "folder/list": { scope: "approve"; params: FolderListParams; result: FolderListResult };
  "ssh/list": { scope: "admin"; params: NoParams; result: SshListResult };
  "ssh/add": { scope: "admin"; params: SshParams; result: EnvironmentInfo };
  "ssh/remove": { scope: "admin"; params: SshParams; result: Done };
  "ssh/login": { scope: "admin"; params: SshParams; result: EnvironmentInfo };
  "ssh/answer": { scope: "admin"; params: SshAnswerParams; result: Done };
  "device/list": { scope: "admin"; params: NoParams; result: DeviceListResult };
  "device/scope": { scope: "admin"; params: DeviceScopeParams; result: DeviceChanged };
  "device/pause": { scope: "admin"; params: DevicePauseParams; result: DeviceChanged };
  "device/revoke": { scope: "admin"; params: DeviceRevokeParams; result: DeviceChanged };
  "host/allowDevices": { scope: "admin"; params: AllowDevicesParams; result: Done };
  "host/keepAwake": { scope: "admin"; params: KeepAwakeParams; result: KeepAwakeInfo };
  "thread/list": { scope: "view"; params: ThreadListParams; result: ThreadListResult };
  "thread/page": { scope: "view"; params: ThreadPageParams; result: ThreadPageResult };
  "prompt/send": { scope: "steer"; params: PromptSendParams; result: Receipt };
  "prompt/read": { scope: "view"; params: PromptReadParams; result: PromptReadResult };
  "prompt/withdraw": { scope: "steer"; params: PromptWithdrawParams; result: Receipt };
  "request/list": { scope: "view"; params: RequestListParams; result: RequestListResult };
  "answer/send": { scope: "steer"; params: AnswerSendParams; result: AnswerSendResult };
  "attention/list": { scope: "view"; params: AttentionListParams; result: AttentionListResult };
};
