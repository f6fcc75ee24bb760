//! What a device may do at a host.

use std::fmt;
use std::str::FromStr;

use crate::words::quote;

/// A device's scope. Each one includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read threads and follow them.
    View,
    /// Prompt, interrupt, answer questions.
    Steer,
    /// Accept, decline or cancel what Codex asks to do. This is a shell as the host's user.
    Approve,
    /// Devices and settings of the host as well.
    Admin,
}

/// A word that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a scope: use view, steer, approve or admin", quote(.0))]
pub struct ParseScopeError(String);

impl Scope {
    /// Every scope, least first.
    pub const ALL: [Self; 4] = [Self::View, Self::Steer, Self::Approve, Self::Admin];

    /// The word used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Steer => "steer",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }

    /// The number on the wire.
    pub fn tag(self) -> u8 {
        match self {
            Self::View => 1,
            Self::Steer => 2,
            Self::Approve => 3,
            Self::Admin => 4,
        }
    }

    /// The scope behind a number; `None` for one that this version does not know.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.tag() == tag)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| ParseScopeError(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_ordered_and_map_both_ways() {
        assert!(Scope::View < Scope::Steer && Scope::Steer < Scope::Approve && Scope::Approve < Scope::Admin);
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
            assert_eq!(Scope::from_tag(scope.tag()), Some(scope));
        }
        assert!("root".parse::<Scope>().is_err());
        assert_eq!(Scope::from_tag(0), None);
    }
}
