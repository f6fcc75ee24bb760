//! SSH hosts: machines that this one reaches over SSH, each an environment of this host.
//!
//! ```text
//! ~/.ssh/config ── aliases ── ssh -G ── settings ── way ── connection: host key, identities
//!                                                                  ├─ shell, bootstrap, install: Codex there
//!                                                                  └─ sftp, disk: its folders
//! ```
//!
//! [`aliases`] finds the names that the person gave to machines. What a name
//! means is OpenSSH's to say ([`settings`]): `Match`, `ProxyJump`, `Include` and
//! all the rest then mean here what they mean in a terminal. Which keys machines
//! are known by, [`known_hosts`] says.

mod algorithms;
mod aliases;
mod backend;
mod bootstrap;
mod carrier;
mod connection;
mod cut;
mod discovery;
mod disk;
mod host_key;
mod identities;
mod install;
mod keyring;
pub mod known_hosts;
mod marker;
mod options;
mod pattern;
mod person;
mod settings;
mod sftp;
mod shell;
mod trouble;
mod way;

pub use aliases::Alias;
pub use backend::{LoginAttempt, SshBackend};
pub use bootstrap::{BootstrapError, Inspection, Reach, Record, Started, Stopped};
pub use connection::{About, ConnectError, Connection};
pub use discovery::{Discovery, DiscoveryError, Found, Listing};
pub use disk::SshDisk;
pub use host_key::HostKeyError;
pub use identities::AuthError;
pub use install::{By, CODEX_VERSION, InstallError, Installed, Step, Swept};
pub use options::Refusal;
pub use person::{Nobody, Person, Prompt, Question, Round, Secret, UnknownKey};
pub use settings::{Settings, SettingsError};
pub use sftp::{Sftp, SftpError};
pub use shell::{FarStream, Ran, RunError, SocketError};
pub use way::{Hop, WayError};
