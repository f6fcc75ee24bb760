//! What passes, as one table: every method of the app-server, its parameters,
//! the scope it needs, the rule for each parameter, and why.
//!
//! Closed by default: a method that is not here, or is `NEVER`, is refused; a
//! parameter that is not here is not passed on (Codex would ignore a member
//! that it does not know, so a client newer than this table keeps working; it
//! does not get what it asked for in a way nobody looked at). A test in
//! `tests/e2e/firewall_schema.rs` compares every line with the schema that the
//! pinned Codex generates.
//!
//! How the scopes are told apart: `view` reads what threads hold and what a
//! client needs to start. `steer` prompts, starts, names and tidies threads, so
//! it also reads what the user can read. `approve` decides, or does what cannot
//! be undone, or forges what the model remembers. Nothing is `admin` that
//! `approve`, a shell, could not do anyway, except what reaches other clients
//! of this host or spends money.

use reachback_proto::scope::Scope;
use reachback_proto::scope::Scope::{Admin, Approve, Steer, View};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Devices with at least this scope.
    From(Scope),
    /// Devices that may approve, where the ceiling opens what runs outside the sandbox.
    Outside,
    /// No device.
    Never,
}

/// What becomes of a value that the host does not let a device choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Else {
    /// The message goes on without it. For what a client sends along with a prompt: the host's own value holds.
    Drop,
    /// The request is refused. For what a person chose right now: silence would look like consent.
    Refuse,
}

/// What happens to one parameter. `null` means "not chosen", and is never refused.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Passes, whatever it holds.
    Pass,
    /// Passes from this scope on; not passed on below it.
    From(Scope),
    /// Is never passed on.
    Drop,
    /// A value here refuses the request.
    Refuse,
    /// Passes where the ceiling opens what runs outside the sandbox; not passed on elsewhere.
    Outside,
    /// The folder that a thread is to be opened in: a workspace, or from `approve` on one below the allowed roots. Not passed
    /// on itself: the agent names the folder, with what goes with it.
    Opens,
    /// A folder that equals a workspace.
    Workspace(Else),
    /// A list of such folders. An empty list passes.
    Workspaces(Else),
    /// A folder for a thread that is open: a workspace; the thread's own is not passed on, since it holds anyway.
    Moves,
    /// A list of folders that are only looked at: workspaces, or from `approve` on folders below the allowed roots.
    Folders(Else),
    /// The path of a file that Codex would open. Refused: between a check here and that, what is there may change.
    File,
    /// A `data:` URL that holds an image. No other URL: Codex passes those on to the model as they are.
    Image,
    /// A `data:` URL that holds sound.
    Audio,
    /// An approval policy, at most the ceiling's.
    Approval(Else),
    /// Who answers approvals: a person always, a model only where the owner lets approvals go unasked.
    Reviewer(Else),
    /// A model provider that the owner configured, from scope `steer` on.
    Provider,
    /// A model in Codex's list or configuration, or the one that the thread uses, from scope `steer` on. Of another one, where
    /// it can't be left out, the thread's own takes the place.
    Model(Else),
    /// Overrides of Codex's configuration: reasoning effort, and the stock client's thread without tools. Not passed on
    /// itself: the agent adds its own to it.
    Config,
    /// Names of notifications not to send; never those that the firewall itself goes by.
    OptOut,
    /// A command that only reads a repository, as the stock client runs for `/diff`; any other needs the ceiling.
    ReadOnlyGit,
    /// An object with these members.
    Object(&'static Params),
    /// A list whose items follow a rule.
    Each(&'static Rule),
    /// An object with the members that go with its `type`; another type refuses the request.
    ByType(&'static [(&'static str, &'static Params)]),
}

/// Rules and the parameters they are for.
pub type Params = [(Rule, &'static [&'static str])];

/// One method of the app-server.
#[derive(Debug)]
pub struct Method {
    /// Its name on the wire.
    pub name: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The rule for each parameter.
    pub params: &'static Params,
    /// What it does with the thread that it names.
    pub thread: ThreadUse,
    /// What its answer holds that is not for devices.
    pub answer: AnswerContent,
    /// Why.
    pub why: &'static str,
}

/// What a method does with a thread. See [`super::threads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadUse {
    /// Nothing that depends on its folder or its profile.
    Any,
    /// Runs a command outside of any.
    Runs,
    /// Starts a new one.
    Starts,
    /// Loads it again, or joins it.
    Resumes,
    /// Starts a new one in its place.
    Forks,
    /// Lets the model act in it, now or later.
    Prompts,
    /// Lets the model act in it, and can say under which profile.
    PromptsUnder,
}

impl ThreadUse {
    /// Whether the answer describes a thread that is open then.
    pub(super) fn opens(self) -> bool {
        matches!(self, Self::Starts | Self::Resumes | Self::Forks)
    }
}

/// What an answer holds that is not for devices. See [`super::answers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerContent {
    /// Nothing.
    Plain,
    /// It reads files of a folder, and its errors quote them.
    Quotes,
    /// The owner's configuration.
    Configuration,
}

impl Method {
    const fn that(self, thread: ThreadUse) -> Self {
        Self { thread, ..self }
    }

    const fn answering(self, answer: AnswerContent) -> Self {
        Self { answer, ..self }
    }
}

/// The rule for a parameter; `None` for one that is not in the table.
pub fn rule_for(params: &'static Params, name: &str) -> Option<(Rule, &'static str)> {
    params.iter().find_map(|(rule, names)| names.iter().find(|known| **known == name).map(|known| (*rule, *known)))
}

/// The method of this name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

const fn from(scope: Scope, name: &'static str, params: &'static Params, why: &'static str) -> Method {
    Method { name, access: Access::From(scope), params, thread: ThreadUse::Any, answer: AnswerContent::Plain, why }
}

const fn outside(name: &'static str, params: &'static Params) -> Method {
    let why = "runs outside Codex's sandbox and approvals";
    Method { name, access: Access::Outside, params, thread: ThreadUse::Any, answer: AnswerContent::Plain, why }
}

const fn never(name: &'static str, why: &'static str) -> Method {
    Method { name, access: Access::Never, params: ANY, thread: ThreadUse::Any, answer: AnswerContent::Plain, why }
}

use AnswerContent::{Configuration, Quotes};
use Else::{Drop as OrDrop, Refuse as OrRefuse};
use Rule::{
    Approval, Audio, ByType, Config, Drop, Each, File, Folders, Image, Model, Moves, Object, Opens, OptOut, Outside,
    Pass, Provider, ReadOnlyGit, Refuse, Reviewer, Workspace, Workspaces,
};
use ThreadUse::{Forks, Prompts, PromptsUnder, Resumes, Runs, Starts};

/// Parameters of a method that no device calls: nobody looks at them.
pub const ANY: &Params = &[];
const NONE: &Params = &[];
const THREAD: &Params = &[(Pass, &["threadId"])];
const PAGE: &Params = &[(Pass, &["cursor", "limit"])];
const THREAD_PAGE: &Params = &[(Pass, &["threadId", "cursor", "limit"])];

const CAPABILITIES: &Params = &[
    // The agent's own additions need `experimentalApi`, so it is always set.
    (Pass, &["experimentalApi", "extensions", "mcpServerOpenaiFormElicitation"]),
    // Where a managed host insists on a person, that person must be one who may approve.
    (Rule::From(Approve), &["requiredHumanApproval"]),
    (OptOut, &["optOutNotificationMethods"]),
    // Attestation is about the host's machine, and gateway sign-in can't be undone by later connections.
    (Drop, &["requestAttestation", "explicitGatewayOauth"]),
];

const CLIENT_INFO: &Params = &[(Pass, &["name", "title", "version"])];

/// What a person types, attaches and mentions. What is attached is sent along, as bytes.
const INPUT: Rule = Each(&ByType(&[
    ("text", &[(Pass, &["type", "text", "text_elements"])]),
    ("image", &[(Pass, &["type", "detail"]), (Image, &["url"]), (Refuse, &["fileId"])]),
    ("localImage", &[(Pass, &["type", "detail"]), (File, &["path"])]),
    ("audio", &[(Pass, &["type"]), (Audio, &["url"]), (Refuse, &["fileId"])]),
    ("localAudio", &[(Pass, &["type"]), (File, &["path"])]),
    // Codex compares the path with those of the skills it loaded itself.
    ("skill", &[(Pass, &["type", "name", "path"])]),
    // A name for the model, file or app:// address; nothing is read for it.
    ("mention", &[(Pass, &["type", "name", "path"])]),
]));

/// Environments are the host's own (`environment/add` is refused); only the place inside is chosen.
const ENVIRONMENTS: Rule =
    Each(&Object(&[(Pass, &["environmentId"]), (Workspace(OrRefuse), &["cwd"]), (Drop, &["runtimeWorkspaceRoots"])]));

const PROJECT_ROOTS: Rule = Each(&Object(&[(Workspace(OrRefuse), &["path"])]));

const MODE: Rule = Object(&[
    (Pass, &["mode"]),
    (Object(&[(Model(OrRefuse), &["model"]), (Pass, &["reasoning_effort", "developer_instructions"])]), &["settings"]),
]);

/// Every request and notification that a client can send, in the schema's order.
pub static METHODS: &[Method] = &[
    from(
        View,
        "initialize",
        &[(Object(CLIENT_INFO), &["clientInfo"]), (Object(CAPABILITIES), &["capabilities"])],
        "opens the connection",
    ),
    from(View, "initialized", NONE, "opens the connection"),
    from(Admin, "server/diagnostics", NONE, "the memory of the host's processes"),
    never("userVerification/status", "about the person at the host's keyboard"),
    never("userVerification/enroll", "about the person at the host's keyboard"),
    never("userVerification/delete", "about the person at the host's keyboard"),
    never("userVerification/verify", "about the person at the host's keyboard"),
    never("userVerification/cancel", "about the person at the host's keyboard"),
    // Threads
    from(
        Steer,
        "thread/start",
        &[
            (
                Pass,
                &[
                    "allowProviderModelFallback",
                    "serviceTier",
                    "serviceName",
                    "personality",
                    "multiAgentMode",
                    "baseInstructions",
                    "developerInstructions",
                    "ephemeral",
                    "historyMode",
                    "sessionStartSource",
                    "threadSource",
                    "projectId",
                    // The client answers the calls itself, as a prompt would.
                    "dynamicTools",
                ],
            ),
            (Opens, &["cwd"]),
            (ENVIRONMENTS, &["environments"]),
            (Provider, &["modelProvider"]),
            (Model(OrDrop), &["model"]),
            (Approval(OrDrop), &["approvalPolicy"]),
            (Reviewer(OrDrop), &["approvalsReviewer"]),
            (Config, &["config"]),
            // The agent names the profile; a sandbox of the client's own, even a tighter one, would take its place, and with
            // it goes what it denies (measured). Roots widen what is writable; capability roots load skills and plugins; raw
            // events are the model's own traffic.
            (
                Drop,
                &[
                    "permissions",
                    "sandbox",
                    "runtimeWorkspaceRoots",
                    "selectedCapabilityRoots",
                    "experimentalRawEvents",
                    "daybreakEnabled",
                    "mockExperimentalField",
                ],
            ),
        ],
        "a new thread, in the host's own sandbox and approvals",
    )
    .that(Starts)
    .answering(Quotes),
    from(
        View,
        "thread/resume",
        &[
            (Pass, &["threadId", "excludeTurns", "initialTurnsPage"]),
            (Rule::From(Steer), &["serviceTier", "personality", "baseInstructions", "developerInstructions"]),
            (Provider, &["modelProvider"]),
            (Model(OrDrop), &["model"]),
            (Approval(OrDrop), &["approvalPolicy"]),
            (Reviewer(OrDrop), &["approvalsReviewer"]),
            // The thread keeps its place; `history` and `path` would resume what the host never had.
            (Drop, &["cwd", "runtimeWorkspaceRoots", "sandbox", "permissions", "config"]),
            (Refuse, &["history", "path"]),
        ],
        "following a thread is resuming it; loading it needs `steer`",
    )
    .that(Resumes)
    .answering(Quotes),
    from(
        Steer,
        "thread/fork",
        &[
            (
                Pass,
                &[
                    "threadId",
                    "lastTurnId",
                    "beforeTurnId",
                    "attachToSource",
                    "deferGoalContinuation",
                    "ephemeral",
                    "excludeTurns",
                    "serviceTier",
                    "threadSource",
                    "baseInstructions",
                    "developerInstructions",
                    "experimentalDisablePredictionMcp",
                    "experimentalPredictionMode",
                ],
            ),
            (Opens, &["cwd"]),
            (Provider, &["modelProvider"]),
            (Model(OrDrop), &["model"]),
            (Approval(OrDrop), &["approvalPolicy"]),
            (Reviewer(OrDrop), &["approvalsReviewer"]),
            (Config, &["config"]),
            (Drop, &["runtimeWorkspaceRoots", "sandbox", "permissions"]),
            (Refuse, &["path"]),
        ],
        "a new thread from an old one",
    )
    .that(Forks)
    .answering(Quotes),
    from(
        Steer,
        "thread/sample",
        &[(
            Pass,
            &[
                "threadId",
                "prompt",
                "expectedTurnId",
                "allowInProgressTurn",
                "disableMcp",
                "effort",
                "interruptOnCancel",
                "responsesapiClientMetadata",
                "threadSource",
                "turnTrigger",
            ],
        )],
        "a question beside the thread",
    )
    .that(Prompts),
    from(Steer, "thread/sample/cancel", &[(Pass, &["requestId"])], "ends one's own question"),
    from(Steer, "thread/archive", THREAD, "tidies, and can be undone"),
    from(Approve, "thread/delete", THREAD, "cannot be undone"),
    from(View, "thread/unsubscribe", THREAD, "stops following"),
    from(Steer, "thread/increment_elicitation", THREAD, "holds a thread's timeouts while a person answers"),
    from(Steer, "thread/decrement_elicitation", THREAD, "holds a thread's timeouts while a person answers"),
    from(Steer, "thread/name/set", &[(Pass, &["threadId", "name"])], "names a thread"),
    from(
        Steer,
        "thread/prediction/request",
        &[(Pass, &["threadId", "sourceTurnId"])],
        "asks the model what comes next",
    )
    .that(Prompts),
    from(
        Steer,
        "thread/goal/set",
        &[(Pass, &["threadId", "objective", "origin", "status", "tokenBudget"])],
        "a prompt that lasts",
    )
    .that(Prompts),
    from(View, "thread/goal/get", THREAD, "reads"),
    from(Steer, "thread/goal/clear", &[(Pass, &["threadId", "origin"])], "a prompt that lasts"),
    from(
        Steer,
        "thread/queue/add",
        &[(Pass, &["threadId", "clientUserMessageId", "responsesapiClientMetadata"]), (INPUT, &["input"])],
        "a prompt for later",
    )
    .that(Prompts),
    from(View, "thread/queue/list", THREAD_PAGE, "reads"),
    from(
        Steer,
        "thread/queue/update",
        &[(Pass, &["threadId", "queuedSubmissionId", "responsesapiClientMetadata"]), (INPUT, &["input"])],
        "a prompt for later",
    )
    .that(Prompts),
    from(Steer, "thread/queue/delete", &[(Pass, &["threadId", "queuedSubmissionId"])], "a prompt for later"),
    from(Steer, "thread/queue/reorder", &[(Pass, &["threadId", "queuedSubmissionIds"])], "a prompt for later"),
    from(Steer, "thread/queue/start", &[(Pass, &["threadId", "queuedSubmissionId"])], "a prompt for later")
        .that(Prompts),
    from(
        Steer,
        "thread/metadata/update",
        &[
            (Pass, &["threadId", "projectId"]),
            (Object(&[(Pass, &["branch", "originUrl", "sha"])]), &["gitInfo"]),
            (Drop, &["daybreakEnabled"]),
        ],
        "what lists show of a thread",
    ),
    from(
        Steer,
        "thread/attachment/add",
        &[(Pass, &["threadId", "attachmentType", "identityKey", "payload"])],
        "what lists show of a thread",
    ),
    from(View, "thread/attachment/list", THREAD_PAGE, "reads"),
    from(
        View,
        "thread/attachmentOwner/list",
        &[(Pass, &["attachmentType", "identityKey", "archived", "cursor", "limit"])],
        "reads",
    ),
    from(
        Steer,
        "thread/attachment/remove",
        &[(Pass, &["threadId", "attachmentType", "identityKey"])],
        "what lists show of a thread",
    ),
    from(
        Steer,
        "thread/section/move",
        &[(Pass, &["threadId", "sectionId", "beforeThreadId"])],
        "what lists show of a thread",
    ),
    from(
        Steer,
        "thread/settings/update",
        &[
            (Pass, &["threadId", "effort", "summary", "serviceTier", "personality", "multiAgentMode"]),
            (Model(OrDrop), &["model"]),
            // A plugin may bring the hooks that guard commands.
            (Rule::From(Approve), &["disabledPluginIds"]),
            (MODE, &["collaborationMode"]),
            (Moves, &["cwd"]),
            (ENVIRONMENTS, &["environments"]),
            (Refuse, &["sandboxPolicy", "permissions"]),
            (Approval(OrRefuse), &["approvalPolicy"]),
            (Reviewer(OrRefuse), &["approvalsReviewer"]),
        ],
        "model, effort and mode of a thread",
    )
    .that(Prompts)
    .answering(Quotes),
    from(Steer, "thread/memoryMode/set", &[(Pass, &["threadId", "mode"])], "whether a thread is remembered"),
    from(View, "thread/memory/read", THREAD, "reads"),
    from(View, "memory/status", &[(Pass, &["minConsolidatedThreads"])], "reads"),
    never("memory/reset", "forgets for every client, and cannot be undone"),
    never("rollout/compress", "rewrites the host's files"),
    from(Steer, "thread/unarchive", THREAD, "tidies, and can be undone"),
    from(Steer, "thread/compact/start", THREAD, "shortens what the model sees").that(Prompts),
    outside("thread/shellCommand", &[(Pass, &["threadId", "command", "timeoutMs"])]).that(Prompts),
    from(
        Approve,
        "thread/approveGuardianDeniedAction",
        &[(Pass, &["threadId", "event"])],
        "an approval in the shape of a request",
    )
    .that(Prompts),
    from(Steer, "thread/backgroundTerminals/clean", THREAD, "an interrupt"),
    from(View, "thread/backgroundTerminals/list", THREAD_PAGE, "reads"),
    from(Steer, "thread/backgroundTerminals/terminate", &[(Pass, &["threadId", "processId"])], "an interrupt"),
    from(Approve, "thread/revert", &[(Pass, &["threadId", "beforeTurnId"])], "cannot be undone"),
    from(
        View,
        "thread/list",
        &[(
            Pass,
            &[
                "ancestorThreadId",
                "archived",
                "attachedToThreadId",
                "currentAccountOnly",
                "cursor",
                "cwd",
                "excludedThreadIds",
                "includeAttachedThreads",
                "limit",
                "modelProviders",
                "originators",
                "parentThreadId",
                "projectId",
                "searchTerm",
                "sectionId",
                "sortDirection",
                "sortKey",
                "sourceKinds",
                "useStateDbOnly",
            ],
        )],
        "reads; `cwd` is a filter",
    ),
    from(View, "project/list", &[(Pass, &["cursor", "limit", "sortDirection", "sortKey"])], "reads"),
    from(View, "project/read", &[(Pass, &["projectId"])], "reads"),
    from(
        Approve,
        "project/create",
        &[(Pass, &["idempotencyKey", "metadata", "name"]), (PROJECT_ROOTS, &["roots"])],
        "roots decide where threads may write",
    ),
    from(
        Approve,
        "project/import",
        &[(Pass, &["idempotencyKey", "metadata", "name", "threads"]), (PROJECT_ROOTS, &["roots"])],
        "roots decide where threads may write",
    ),
    from(
        Approve,
        "project/update",
        &[(Pass, &["projectId", "metadata", "name"]), (PROJECT_ROOTS, &["roots"])],
        "roots decide where threads may write",
    ),
    from(Steer, "project/move", &[(Pass, &["projectId", "beforeProjectId"])], "what lists show"),
    from(Approve, "project/delete", &[(Pass, &["projectId"])], "cannot be undone"),
    from(View, "threadSection/list", PAGE, "reads"),
    from(Steer, "threadSection/create", &[(Pass, &["appearance", "name"])], "what lists show"),
    from(Steer, "threadSection/update", &[(Pass, &["sectionId", "appearance", "name"])], "what lists show"),
    from(Steer, "threadSection/delete", &[(Pass, &["sectionId"])], "what lists show"),
    from(
        View,
        "thread/search",
        &[(
            Pass,
            &[
                "searchTerm",
                "archived",
                "currentAccountOnly",
                "cursor",
                "includeAttachedThreads",
                "limit",
                "sortDirection",
                "sortKey",
                "sourceKinds",
            ],
        )],
        "reads",
    ),
    from(View, "thread/searchOccurrences", &[(Pass, &["threadId", "searchTerm", "cursor", "limit"])], "reads"),
    from(View, "thread/loaded/list", PAGE, "reads"),
    from(View, "thread/read", &[(Pass, &["threadId", "includeTurns"])], "reads"),
    from(
        Steer,
        "thread/readState/update",
        &[(Pass, &["threadId", "operation", "expectedRevision"])],
        "what lists show of a thread",
    ),
    from(View, "thread/turns/list", &[(Pass, &["threadId", "cursor", "limit", "itemsView", "sortDirection"])], "reads"),
    from(
        View,
        "thread/items/list",
        &[(Pass, &["threadId", "turnId", "cursor", "limit", "deferOutput", "sortDirection"])],
        "reads",
    ),
    from(View, "thread/items/read", &[(Pass, &["threadId", "turnId", "itemIds"])], "reads"),
    from(Steer, "thread/guardianReview", THREAD, "asks the reviewing model").that(Prompts),
    from(Approve, "thread/inject_items", &[(Pass, &["threadId", "items"])], "forges what the model remembers")
        .that(Prompts),
    from(
        Steer,
        "thread/prepareApprovedPlan",
        &[(Pass, &["threadId", "markdown"]), (File, &["attachmentPath"])],
        "a prompt made of a plan",
    )
    .that(Prompts),
    // Skills, hooks, plugins, apps
    from(View, "skills/list", &[(Workspaces(OrDrop), &["cwds"]), (Pass, &["forceReload"])], "reads").answering(Quotes),
    never("skills/extraRoots/set", "instructions from any folder, for every client"),
    from(View, "hooks/list", &[(Workspaces(OrDrop), &["cwds"]), (Pass, &["threadId"])], "reads").answering(Quotes),
    never("marketplace/add", "where the host's plugins come from"),
    never("marketplace/remove", "where the host's plugins come from"),
    never("marketplace/upgrade", "where the host's plugins come from"),
    from(
        View,
        "plugin/list",
        &[(Workspaces(OrDrop), &["cwds"]), (Pass, &["forceRefetch", "marketplaceKinds"])],
        "reads",
    )
    .answering(Quotes),
    from(
        View,
        "plugin/search",
        &[(Workspaces(OrDrop), &["cwds"]), (Pass, &["cursor", "limit", "scope", "searchTerm"])],
        "reads",
    )
    .answering(Quotes),
    from(
        View,
        "plugin/installed",
        &[(Workspaces(OrDrop), &["cwds"]), (Pass, &["installSuggestionPluginNames"])],
        "reads",
    )
    .answering(Quotes),
    never("plugin/reconcile", "installs programs on the host"),
    from(
        View,
        "plugin/read",
        &[(Workspace(OrRefuse), &["marketplacePath"]), (Pass, &["pluginName", "remoteMarketplaceName"])],
        "reads",
    )
    .answering(Quotes),
    from(View, "plugin/skill/read", &[(Pass, &["remoteMarketplaceName", "remotePluginId", "skillName"])], "reads"),
    never("plugin/share/save", "publishes the host's files"),
    never("plugin/share/updateTargets", "publishes the host's files"),
    from(View, "plugin/share/list", NONE, "reads"),
    never("plugin/share/checkout", "installs programs on the host"),
    never("plugin/share/delete", "takes away what others use"),
    from(View, "app/read", &[(Pass, &["appIds", "includeTools", "threadId"])], "reads"),
    from(View, "app/list", &[(Pass, &["cursor", "limit", "forceRefetch", "threadId"])], "reads"),
    from(View, "app/installed", &[(Pass, &["forceRefresh", "threadId"])], "reads"),
    // Files: the agent's own API serves them, with real paths.
    never("fs/readFile", "any file of the user"),
    never("fs/writeFile", "any file of the user"),
    never("fs/createDirectory", "any file of the user"),
    never("fs/getMetadata", "any file of the user"),
    never("fs/readDirectory", "any file of the user"),
    never("fs/remove", "any file of the user"),
    never("fs/copy", "any file of the user"),
    never("fs/watch", "any file of the user"),
    never("fs/unwatch", "any file of the user"),
    never("skills/config/write", "the host's configuration"),
    never("plugin/install", "installs programs on the host"),
    never("plugin/uninstall", "takes away what the host uses"),
    // Turns
    from(
        Steer,
        "turn/start",
        &[
            (
                Pass,
                &[
                    "threadId",
                    "clientUserMessageId",
                    "effort",
                    "summary",
                    "serviceTier",
                    "serviceTierForTurn",
                    "personality",
                    "multiAgentMode",
                    "outputSchema",
                    "turnTrigger",
                    "parentTurnId",
                    "rootTurnId",
                    "additionalContext",
                    "responsesapiClientMetadata",
                    "responsesapiClientMetadataPatch",
                ],
            ),
            // The one forges what the model remembers; a plugin may bring the hooks that guard commands.
            (Rule::From(Approve), &["toolOutput", "disabledPluginIds"]),
            (INPUT, &["input"]),
            (Model(OrDrop), &["model"]),
            (MODE, &["collaborationMode"]),
            // Clients repeat the thread's place with every prompt, and the owner may have started it anywhere.
            (Workspace(OrDrop), &["cwd"]),
            (ENVIRONMENTS, &["environments"]),
            (Approval(OrDrop), &["approvalPolicy"]),
            (Reviewer(OrDrop), &["approvalsReviewer"]),
            (Drop, &["runtimeWorkspaceRoots", "cyberAccessProgram", "sandboxPolicy", "permissions"]),
        ],
        "a prompt",
    )
    .that(PromptsUnder),
    from(
        Steer,
        "turn/settings/update",
        &[
            (Pass, &["threadId", "turnId", "effort", "summary", "serviceTier"]),
            (Model(OrDrop), &["model"]),
            (ENVIRONMENTS, &["environments"]),
            (Reviewer(OrRefuse), &["approvalsReviewer"]),
        ],
        "model and effort of the running turn",
    )
    .that(Prompts),
    from(
        Steer,
        "turn/steer",
        &[
            (
                Pass,
                &[
                    "threadId",
                    "expectedTurnId",
                    "clientUserMessageId",
                    "additionalContext",
                    "responsesapiClientMetadata",
                    "responsesapiClientMetadataPatch",
                ],
            ),
            (INPUT, &["input"]),
        ],
        "a prompt",
    )
    .that(Prompts),
    from(Steer, "turn/interrupt", &[(Pass, &["threadId", "turnId"])], "an interrupt"),
    // Voice: what is said is a prompt.
    from(
        Steer,
        "thread/realtime/start",
        &[
            (
                Pass,
                &[
                    "threadId",
                    "backendReasoningStatus",
                    "clientManagedHandoffs",
                    "codexResponseHandoffChannelPrefixes",
                    "codexResponseHandoffMode",
                    "codexResponseItemPrefix",
                    "codexResponsesAsItems",
                    "delegationAckFiller",
                    "flushTranscriptTailOnSessionEnd",
                    "includeStartupContext",
                    "initialItems",
                    "outputModality",
                    "prompt",
                    "realtimeEndInstructions",
                    "realtimeSessionId",
                    "realtimeStartInstructions",
                    "transport",
                    "version",
                    "voice",
                    "voiceSessionId",
                ],
            ),
            // Of what speaks, not of what works.
            (Model(OrDrop), &["model"]),
        ],
        "a prompt by voice",
    )
    .that(Prompts),
    from(Steer, "thread/realtime/appendAudio", &[(Pass, &["threadId", "audio"])], "a prompt by voice").that(Prompts),
    from(Steer, "thread/realtime/appendText", &[(Pass, &["threadId", "role", "text"])], "a prompt by voice")
        .that(Prompts),
    from(Steer, "thread/realtime/appendSpeech", &[(Pass, &["threadId", "text"])], "a prompt by voice").that(Prompts),
    from(Steer, "thread/realtime/stop", THREAD, "a prompt by voice"),
    from(View, "thread/timeline/list", THREAD_PAGE, "reads"),
    from(View, "thread/realtime/listVoices", NONE, "reads"),
    from(
        Steer,
        "review/start",
        &[
            (Pass, &["threadId", "delivery"]),
            (
                ByType(&[
                    ("uncommittedChanges", &[(Pass, &["type"])]),
                    ("baseBranch", &[(Pass, &["type", "branch"])]),
                    ("commit", &[(Pass, &["type", "sha", "title"])]),
                    ("custom", &[(Pass, &["type", "instructions"])]),
                ]),
                &["target"],
            ),
        ],
        "a prompt",
    )
    .that(Prompts),
    // Models and features
    from(View, "model/list", &[(Pass, &["cursor", "limit", "includeHidden", "modelProvider"])], "reads"),
    from(View, "account/gatewayOAuth/read", &[(Pass, &["modelProvider"])], "reads"),
    never("account/gatewayOAuth/login", "signs in"),
    never("account/gatewayOAuth/cancel", "signs in"),
    from(View, "modelProvider/list", NONE, "reads"),
    never("modelProvider/config/write", "where the host's prompts and keys go"),
    from(View, "modelProvider/capabilities/read", NONE, "reads"),
    from(View, "experimentalFeature/list", &[(Pass, &["cursor", "limit", "threadId"])], "reads"),
    from(View, "permissionProfile/list", &[(Pass, &["cursor", "limit"]), (Workspace(OrDrop), &["cwd"])], "reads")
        .answering(Quotes),
    never("experimentalFeature/enablement/set", "the host's configuration, for every client"),
    never("remoteControl/enable", "lets someone else in"),
    never("remoteControl/disable", "shuts someone else out"),
    never("remoteControl/status/read", "another way in is the owner's business"),
    never("remoteControl/pairing/start", "lets someone else in"),
    never("remoteControl/pairing/status", "lets someone else in"),
    never("remoteControl/client/list", "another way in is the owner's business"),
    never("remoteControl/client/revoke", "shuts someone else out"),
    from(View, "collaborationMode/list", NONE, "reads"),
    never("mock/experimentalMethod", "for Codex's own tests"),
    never("environment/add", "runs the host's work, with its credentials, on another machine"),
    from(View, "environment/info", &[(Pass, &["environmentId"])], "reads"),
    from(View, "environment/status", &[(Pass, &["environmentId"])], "reads"),
    // MCP servers
    never("mcpServer/oauth/login", "signs in"),
    never("config/mcpServer/reload", "starts the programs of every loaded thread's folder"),
    from(View, "mcpServerStatus/list", &[(Pass, &["cursor", "limit", "detail", "serverName", "threadId"])], "reads")
        .answering(Quotes),
    from(
        Approve,
        "mcpServer/resource/read",
        &[(Pass, &["server", "uri", "threadId", "connectorId", "originCallId", "target", "_meta"])],
        "reads with the host's credentials",
    )
    .answering(Quotes),
    outside(
        "mcpServer/event/stream/start",
        &[(Pass, &["server", "name", "arguments", "subscriptionId", "threadId", "_meta"])],
    ),
    outside("mcpServer/event/stream/stop", &[(Pass, &["subscriptionId"])]),
    outside("mcpServer/tool/call", &[(Pass, &["server", "tool", "arguments", "threadId", "_meta"])]),
    never("windowsSandbox/setupStart", "changes the host's machine"),
    from(View, "windowsSandbox/readiness", NONE, "reads"),
    // The account
    never("account/login/start", "signs in"),
    never("account/bedrock/discover", "looks for credentials"),
    never("account/bedrock/setup", "signs in"),
    never("account/gcp/setup", "signs in"),
    from(View, "account/bedrock/checkGovCloudRequirements", NONE, "reads; the stock client asks at its start"),
    never("account/login/cancel", "signs in"),
    never("accountSession/list", "the owner's other accounts"),
    never("accountSession/switch", "signs in"),
    never("account/logout", "signs out"),
    from(View, "account/securitySetup/read", NONE, "reads"),
    from(View, "account/rateLimits/read", &[(Pass, &["excludeResetCreditDetails", "supportsLunaReserve"])], "reads"),
    from(Admin, "account/rateLimitResetCredit/consume", &[(Pass, &["creditId", "idempotencyKey"])], "spends"),
    from(View, "account/usage/read", &[(Pass, &["threadId"])], "reads"),
    from(View, "account/workspaceMessages/read", NONE, "reads"),
    never("account/sendAddCreditsNudgeEmail", "sends mail in the owner's name"),
    never("feedback/upload", "sends the owner's logs away"),
    never("feedback/save", "writes any file of the user"),
    // Commands outside of any turn
    from(
        Approve,
        "command/exec",
        &[
            (ReadOnlyGit, &["command"]),
            (Workspace(OrRefuse), &["cwd"]),
            (Pass, &["disableOutputCap", "outputBytesCap", "timeoutMs"]),
            // The agent's own, whatever the ceiling: no environment of a device's, and the profile that reads.
            (Drop, &["env", "permissionProfile", "sandboxPolicy"]),
            (Outside, &["disableTimeout", "processId", "size", "streamStdin", "streamStdoutStderr", "tty"]),
        ],
        "runs without approval, so only what reads a repository",
    )
    .that(Runs),
    outside("command/exec/write", &[(Pass, &["processId", "deltaBase64", "closeStdin"])]),
    outside("command/exec/terminate", &[(Pass, &["processId"])]),
    outside("command/exec/resize", &[(Pass, &["processId", "size"])]),
    outside(
        "process/spawn",
        &[(
            Pass,
            &[
                "command",
                "cwd",
                "env",
                "outputBytesCap",
                "processHandle",
                "size",
                "streamStdin",
                "streamStdoutStderr",
                "timeoutMs",
                "tty",
            ],
        )],
    ),
    outside("process/writeStdin", &[(Pass, &["processHandle", "deltaBase64", "closeStdin"])]),
    outside("process/kill", &[(Pass, &["processHandle"])]),
    outside("process/resizePty", &[(Pass, &["processHandle", "size"])]),
    // Configuration
    from(
        View,
        "config/read",
        &[(Pass, &["includeLayers"]), (Workspace(OrDrop), &["cwd"])],
        "reads; below `steer` only what cannot hold tokens",
    )
    .answering(Configuration),
    never("externalAgentConfig/detect", "searches the user's home"),
    never("externalAgentConfig/import", "the host's configuration"),
    never("externalAgentConfig/import/recordHistory", "the host's configuration"),
    never("externalAgentConfig/import/readHistories", "the host's configuration"),
    never("config/value/write", "the host's configuration"),
    never("config/batchWrite", "the host's configuration"),
    from(View, "configRequirements/read", NONE, "reads"),
    from(View, "account/read", &[(Rule::From(Admin), &["refreshToken"])], "reads; the stock client asks at its start"),
    // Old names, still answered
    from(View, "getConversationSummary", &[(Pass, &["conversationId"]), (Refuse, &["rolloutPath"])], "reads"),
    never("gitDiffToRemote", "runs what a repository configures, outside the sandbox"),
    never("getAuthStatus", "holds the token itself"),
    from(
        Steer,
        "fuzzyFileSearch",
        &[(Folders(OrRefuse), &["roots"]), (Pass, &["query", "cancellationToken"])],
        "names of files",
    ),
    from(
        Steer,
        "fuzzyFileSearch/sessionStart",
        &[(Folders(OrRefuse), &["roots"]), (Pass, &["sessionId"])],
        "names of files",
    ),
    from(Steer, "fuzzyFileSearch/sessionUpdate", &[(Pass, &["sessionId", "query"])], "names of files"),
    from(Steer, "fuzzyFileSearch/sessionStop", &[(Pass, &["sessionId"])], "names of files"),
];

/// Every notification that Codex sends. All of them go to every device that its thread's client would be: `view` sees what the
/// threads saw. One that is not here does not pass, so that a new kind is looked at before devices see it.
pub static NOTIFICATIONS: &[&str] = &[
    "account/gatewayOAuth/changed",
    "account/login/completed",
    "account/rateLimits/updated",
    "account/updated",
    "app/list/updated",
    "autoApprovalReview/strictReviewRequired",
    "command/exec/outputDelta",
    "configWarning",
    "deprecationNotice",
    "error",
    "externalAgentConfig/import/completed",
    "externalAgentConfig/import/progress",
    "fs/changed",
    "fuzzyFileSearch/sessionCompleted",
    "fuzzyFileSearch/sessionUpdated",
    "guardianWarning",
    "hook/completed",
    "hook/started",
    "item/agentMessage/delta",
    "item/autoApprovalReview/completed",
    "item/autoApprovalReview/started",
    "item/commandExecution/outputDelta",
    "item/commandExecution/terminalInteraction",
    "item/completed",
    "item/fileChange/outputDelta",
    "item/fileChange/patchUpdated",
    "item/mcpToolCall/progress",
    "item/plan/delta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "item/started",
    "mcpServer/event/stream/notification",
    "mcpServer/oauthLogin/completed",
    "mcpServer/startupStatus/updated",
    "model/rerouted",
    "model/safetyBuffering/updated",
    "model/verification",
    "modelProvider/authRecoveryCompleted",
    "modelProvider/authRecoveryStarted",
    "process/exited",
    "process/outputDelta",
    "project/changed",
    "rawResponse/completed",
    "rawResponseItem/completed",
    "remoteControl/status/changed",
    "serverRequest/resolved",
    "skills/changed",
    "thread/archived",
    "thread/attachment/updated",
    "thread/closed",
    "thread/compacted",
    "thread/deleted",
    "thread/environment/connected",
    "thread/environment/disconnected",
    "thread/goal/cleared",
    "thread/goal/updated",
    "thread/name/updated",
    "thread/prediction/updated",
    "thread/project/updated",
    "thread/queue/changed",
    "thread/readState/changed",
    "thread/realtime/closed",
    "thread/realtime/error",
    "thread/realtime/item/completed",
    "thread/realtime/item/started",
    "thread/realtime/item/transcript/delta",
    "thread/realtime/itemAdded",
    "thread/realtime/outputAudio/delta",
    "thread/realtime/sdp",
    "thread/realtime/started",
    "thread/realtime/transcript/delta",
    "thread/realtime/transcript/done",
    "thread/reverted",
    "thread/section/changed",
    "thread/settings/updated",
    "thread/started",
    "thread/status/changed",
    "thread/tokenUsage/updated",
    "thread/unarchived",
    "turn/completed",
    "turn/diff/updated",
    "turn/moderationMetadata",
    "turn/plan/updated",
    "turn/started",
    "warning",
    "windows/worldWritableWarning",
    "windowsSandbox/setupCompleted",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_notifications_sorted() {
        for (index, method) in METHODS.iter().enumerate() {
            assert!(METHODS[index + 1..].iter().all(|other| other.name != method.name), "{} twice", method.name);
            let names: Vec<_> = method.params.iter().flat_map(|(_, names)| names.iter()).collect();
            for (index, name) in names.iter().enumerate() {
                assert!(!names[index + 1..].contains(name), "{} names {name} twice", method.name);
            }
        }
        assert!(NOTIFICATIONS.is_sorted(), "a binary search goes over them");
    }
}
