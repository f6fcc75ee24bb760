//! The host agent and the controlling role.

pub mod agent;
pub mod audit;
pub mod backoff;
pub mod cli;
pub mod codex;
pub mod connect;
pub mod demo;
pub mod disk;
pub mod firewall;
mod first_of;
pub mod link;
pub mod local_api;
pub(crate) mod platform;
pub(crate) mod qr;
pub mod session;
pub mod ssh;
pub mod state;
