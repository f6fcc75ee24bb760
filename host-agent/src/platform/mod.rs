//! What differs between operating systems, in one place.
//!
//! Everything outside this module asks for "a private directory", "a file of
//! this user", "a socket that only this user reaches"; how that is done is
//! below. [`unix`] has modes and uids. Elsewhere (Windows) the profile folders
//! are private by the access lists they inherit, so there is nothing to check,
//! and the local socket is refused with a typed error.

pub(crate) mod awake;
pub(crate) mod dirs;
pub(crate) mod files;
pub(crate) mod launchd;
pub(crate) mod loopback;
pub(crate) mod processes;
pub(crate) mod programs;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod ssh_agent;
pub(crate) mod task_scheduler;
pub(crate) mod terminal;
mod xml;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
use other as imp;
#[cfg(unix)]
use unix as imp;
