//! An unmodified `codex remote-control`, which comes to the agent by itself.
//!
//! It keeps one WebSocket open to what it takes for its maker's service, and in
//! that socket many connections, each message in an [`envelope`]. [`clients::Clients`]
//! makes a [`super::CodexConnection`] of each. [`http`] is the address that it
//! comes to, [`enrolment`] what lets it in there.

pub mod clients;
pub mod control;
pub mod enrolment;
pub mod envelope;
pub mod http;
mod inbox;
mod joining;
mod outbox;
pub mod upstream;
