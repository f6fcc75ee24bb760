//! An unmodified `codex remote-control`, which comes to the agent by itself.
//!
//! It keeps one WebSocket open to what it takes for its maker's service, and in
//! that socket many connections, each message in an [`envelope`]. [`clients::Clients`]
//! makes a [`super::CodexConnection`] of each.

pub mod clients;
pub mod envelope;
mod inbox;
mod joining;
mod outbox;
