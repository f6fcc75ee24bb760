//! SSH hosts: machines that this one reaches over SSH, each an environment of this host.
//!
//! ```text
//! ~/.ssh/config ── aliases ── ssh -G ── settings
//! ```
//!
//! [`aliases`] finds the names that the person gave to machines. What a name
//! means is OpenSSH's to say ([`settings`]): `Match`, `ProxyJump`, `Include` and
//! all the rest then mean here what they mean in a terminal. Which keys machines
//! are known by, [`known_hosts`] says.

mod aliases;
mod discovery;
pub mod known_hosts;
mod pattern;
mod settings;

pub use aliases::Alias;
pub use discovery::{Discovery, DiscoveryError, Found, Listing};
pub use settings::{Settings, SettingsError};
