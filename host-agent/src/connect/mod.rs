//! The controlling role: this machine as a device of other hosts.
//!
//! [`join`] pairs with a host; [`remote`] keeps a session with one, over
//! whatever links there are; [`host_info`] keeps what it says of itself; [`local_socket`] lets a stock Codex terminal UI
//! believe that the host's app-server is on this machine, and [`stdio`] whoever starts an app-server to speak with it, by a [`bridge`]
//! for each client, and [`outcome`] remembers how it went,
//! for the person.

pub mod bridge;
pub mod host_info;
pub mod join;
pub mod local_socket;
pub(crate) mod outcome;
pub mod presence;
pub mod remote;
pub mod stdio;
