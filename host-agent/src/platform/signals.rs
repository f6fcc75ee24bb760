//! Being asked to stop.

use reachback_relay::signals::StopSignals;

/// Ends when the user or the system asks this process to stop: Ctrl-C, a service manager's SIGTERM, or the SIGHUP of
/// a terminal that is closed, but for those that it was started to ignore. An end without order would leave the Codex that
/// was started behind.
pub(crate) async fn stop_wanted() {
    match StopSignals::listen() {
        Ok(mut signals) => signals.next().await,
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// How long tasks that were dropped get to let go of what they hold: Codex's processes are ended by such a drop.
const LET_GO: std::time::Duration = std::time::Duration::from_millis(300);

/// Lets `ending` take its time, but no longer than `limit`, and not past a second wish to stop.
///
/// What is left then is dropped, which ends it hard.
pub(crate) async fn stop_within(limit: std::time::Duration, ending: impl Future<Output = ()>) {
    let is_done = tokio::select! {
        () = ending => true,
        () = stop_wanted() => {
            tracing::warn!("asked twice: stopping at once");
            false
        }
        () = tokio::time::sleep(limit) => {
            tracing::warn!("not everything ended in time");
            false
        }
    };
    if !is_done {
        tokio::time::sleep(LET_GO).await;
    }
}
