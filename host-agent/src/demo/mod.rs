//! `--demo`: the real Codex without an account.
//!
//! Codex runs as always, with a private `CODEX_HOME` ([`home`]) whose model
//! provider is a script on loopback ([`model`]). Threads, commands, approvals and
//! file changes are real; only the thinking is not. Nothing leaves the machine.

pub mod home;
pub mod machine;
pub mod model;

pub use home::DemoHome;
pub use machine::DemoMachine;
pub use model::ScriptedModel;
