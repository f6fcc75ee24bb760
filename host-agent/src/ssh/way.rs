//! The way to a machine: itself, and the machines that one goes through.
//!
//! `ProxyJump` works as in OpenSSH, which starts an `ssh` for the last jump with the
//! others as *its* jumps: what a jump's own configuration says holds, but for
//! `ProxyJump`, and that of the first one holds too.

use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::quote;

use super::settings::{Settings, SettingsError, Ssh};
use super::{algorithms, aliases};

/// Machines on one way. More of them is a circle, or a mistake.
const MAX_HOPS: usize = 16;

/// A machine on the way.
#[derive(Debug, Clone)]
pub struct Hop {
    /// What the configuration calls it.
    pub name: String,
    /// What that means. Lists of algorithms are there only where somebody chose them.
    pub settings: Settings,
}

/// There is no way.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WayError {
    /// OpenSSH does not say what a name means.
    #[error("{}: {source}", quote(name))]
    Settings {
        /// The name.
        name: String,
        /// Why not.
        source: SettingsError,
    },
    /// A jump that is none.
    #[error("ProxyJump names {}, which is no [user@]host[:port]", quote(jump))]
    Jump {
        /// What it says.
        jump: String,
    },
    /// A jump leads through itself, or there is no end.
    #[error("its ProxyJump goes in a circle, or through more than {MAX_HOPS} machines")]
    Circle,
}

/// The machines on the way to a name of the configuration: where to go first comes first, the machine itself last.
pub(super) async fn to(ssh: &Ssh, name: &str) -> Result<Vec<Hop>, WayError> {
    let start = Jump { user: None, host: name.to_owned(), port: None };
    let mut through = HashSet::new();
    let way = whole(ssh, &start, &mut through).await?;
    if way.len() > MAX_HOPS {
        return Err(WayError::Circle);
    }
    let usual = Settings::usual(ssh).await.map_err(|source| WayError::Settings { name: name.to_owned(), source })?;
    let said = |hop: Hop| Hop { settings: hop.settings.without_usual(&usual, algorithms::LISTS), ..hop };
    Ok(way.into_iter().map(said).collect())
}

/// With the jumps of its own configuration.
fn whole<'a>(
    ssh: &'a Ssh,
    to: &'a Jump,
    through: &'a mut HashSet<String>,
) -> BoxFuture<'a, Result<Vec<Hop>, WayError>> {
    async move {
        if !through.insert(to.host.clone()) {
            return Err(WayError::Circle);
        }
        let last = to.hop(ssh).await?;
        let jumps = last.settings.jumps().into_iter().map(Jump::parse).collect::<Result<Vec<_>, _>>()?;
        let mut way = Vec::new();
        if let Some((first, others)) = jumps.split_first() {
            if others.len() >= MAX_HOPS {
                return Err(WayError::Circle);
            }
            way = whole(ssh, first, through).await?;
            for jump in others {
                way.push(jump.hop(ssh).await?);
            }
        }
        way.push(last);
        Ok(way)
    }
    .boxed()
}

/// A machine as `ProxyJump` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jump {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
}

impl Jump {
    /// `[user@]host[:port]` or `ssh://[user@]host[:port]`; an IPv6 address with a port stands in brackets.
    fn parse(text: &str) -> Result<Self, WayError> {
        let refuse = || WayError::Jump { jump: text.to_owned() };
        let rest = text.strip_prefix("ssh://").map_or(text, |uri| uri.trim_end_matches('/'));
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, rest),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or_else(refuse)?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(refuse)?) })
            }
            None => match place.rsplit_once(':') {
                // An IPv6 address without brackets has no port.
                Some((host, port)) if !host.contains(':') => (host, Some(port)),
                _ => (place, None),
            },
        };
        let port = port.map(str::parse).transpose().map_err(|_| refuse())?;
        let is_user = |user: &String| !user.is_empty() && !user.starts_with('-') && !user.chars().any(char::is_control);
        if !aliases::is_name(host) || !user.as_ref().is_none_or(is_user) {
            return Err(refuse());
        }
        Ok(Self { user, host: host.to_owned(), port })
    }

    async fn hop(&self, ssh: &Ssh) -> Result<Hop, WayError> {
        let settings = Settings::of(ssh, self).await;
        let settings = settings.map_err(|source| WayError::Settings { name: self.host.clone(), source })?;
        Ok(Hop { name: self.host.clone(), settings })
    }
}

/// What paths and commands of the configuration hold in place of what is only known now (ssh_config(5), TOKENS).
pub(super) fn expand(text: &str, hop: &Hop, home: Option<&PathBuf>) -> Option<String> {
    let settings = &hop.settings;
    let home = || home.and_then(|home| home.to_str()).map(str::to_owned);
    let mut out = String::new();
    let mut rest = text;
    if let Some(below) = text.strip_prefix("~/") {
        out = format!("{}/", home()?);
        rest = below;
    }
    while let Some((before, after)) = rest.split_once('%') {
        out += before;
        let mut letters = after.chars();
        match letters.next()? {
            '%' => out.push('%'),
            'd' => out += &home()?,
            'h' => out += settings.host_name(),
            'k' => out += settings.host_key_alias().unwrap_or(&hop.name),
            'n' => out += &hop.name,
            'p' => out += &settings.port()?.to_string(),
            'r' => out += settings.user(),
            _ => return None,
        }
        rest = letters.as_str();
    }
    out += rest;
    variables(&out)
}

/// The text with `${NAME}` replaced by what the environment says. `None` where it says nothing.
fn variables(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        out += before;
        out += &std::env::var_os(name)?.into_string().ok()?;
        rest = after;
    }
    Some(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
        Jump::parse(text).ok().map(|Jump { user, host, port }| (user, host, port))
    }

    #[test]
    fn jumps_are_read_as_openssh_reads_them() {
        let whole = |user: Option<&str>, host: &str, port| Some((user.map(str::to_owned), host.to_owned(), port));
        assert_eq!(jump("one"), whole(None, "one", None));
        assert_eq!(jump("me@one:2200"), whole(Some("me"), "one", Some(2200)));
        assert_eq!(jump("me@corp@one"), whole(Some("me@corp"), "one", None));
        assert_eq!(jump("ssh://me@one:33/"), whole(Some("me"), "one", Some(33)));
        assert_eq!(jump("a@[fe80::1]:22"), whole(Some("a"), "fe80::1", Some(22)));
        assert_eq!(jump("fe80::1"), whole(None, "fe80::1", None));
        for none in
            ["", "@one", "one:", "one:70000", "[fe80::1", "[fe80::1]22", "-oProxyCommand=x", "a b", "-l@one", "$(x)"]
        {
            assert_eq!(jump(none), None, "{none:?}");
        }
    }
}
