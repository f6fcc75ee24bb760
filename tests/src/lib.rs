//! What end-to-end tests share.
//!
//! Everything is real: the relay as a process or in process, the agent, the
//! pinned Codex with a scripted model, sockets. What a test adds is trouble:
//! [`cutter`] breaks links, [`recorder`] keeps what the relay handles.

pub mod authority;
pub mod busy;
pub mod codex;
pub mod containers;
pub mod cutter;
pub mod dice;
pub mod foreign;
pub mod log;
pub mod middleman;
pub mod network;
pub mod process;
pub mod proxy;
pub mod recorder;
pub mod recordings;
pub mod rpc;
pub mod sshd;
pub mod stage;
pub mod tmux;
pub mod udp_path;

use std::time::Duration;

/// How long anything may take here; a cold start of Codex on a busy machine is the slowest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds`, asking every few milliseconds; says `what` was waited for in vain.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain: {what}");
}
