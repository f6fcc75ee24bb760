//! Being asked to stop.

/// Ends when the user or the system asks this process to stop: Ctrl-C, a service manager's SIGTERM, or the SIGHUP of
/// a terminal that is closed. An end without order would leave the Codex that was started behind.
pub async fn stop_wanted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut hang_up)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
