//! What the host's owner lets devices choose at all.
//!
//! By default: nothing but where to work. A device's wish for another sandbox,
//! or for another approval policy, is not passed on, so what the host's own
//! Codex configuration says holds. An owner who wants to choose from afar
//! raises the ceiling; a wish at or below it then passes.

use serde::Deserialize;

/// When Codex asks before it runs something, most often first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Before all but known harmless commands.
    Untrusted,
    /// When the model wants to leave the sandbox.
    OnRequest,
    /// Never. A policy in parts (`granular`) may switch any question off, so it counts as this.
    Never,
}

/// The most that any device may choose, whatever its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// The quietest approval policy that a device may choose. Default: `None`, the host's own configuration holds.
    pub approval: Option<Approval>,
    /// Whether devices that may approve may also run commands outside Codex's sandbox and approvals. Default: no.
    pub outside_sandbox: bool,
}
