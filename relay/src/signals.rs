//! Being asked to stop by a signal; for every program that runs a relay, `reachback` too.
//!
//! What whoever started the program had it ignore stays ignored: SIGHUP below
//! `nohup`, SIGINT for what a script puts in the background. A handler would undo
//! that. SIGTERM is always heard: without it nobody could stop the program in order.
//!
//! Asking the system what is ignored takes `sigaction`, which no library offers
//! without `unsafe`. Linux tells it in `/proc`; elsewhere a shell is asked, which
//! inherits it from us.

use std::io;

/// Requests to stop: SIGTERM of a service manager, Ctrl-C, and the SIGHUP of a terminal that is closed.
#[derive(Debug)]
pub struct StopSignals {
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    interrupt: Option<unix::Signal>,
    #[cfg(unix)]
    hang_up: Option<unix::Signal>,
}

impl StopSignals {
    /// Listens from now on. Needs a tokio runtime; the first call has to come before anything else handles these signals.
    ///
    /// # Errors
    ///
    /// What the system says when it takes no handler.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let ignored = unix::ignored();
            let unless = |ignored: bool, kind| if ignored { Ok(None) } else { signal(kind).map(Some) };
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: unless(ignored.interrupt, SignalKind::interrupt())?,
                hang_up: unless(ignored.hang_up, SignalKind::hangup())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one. Safe to cancel.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            () = unix::heard(&mut self.interrupt) => {}
            () = unix::heard(&mut self.hang_up) => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(unix)]
mod unix {
    use std::process::{Command, Stdio};
    use std::sync::OnceLock;

    pub(super) use tokio::signal::unix::Signal;

    /// What this process was started with.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Ignored {
        pub(super) hang_up: bool,
        pub(super) interrupt: bool,
    }

    /// Waits for a signal; for ever, when it is not to be heard.
    pub(super) async fn heard(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }

    /// Looked up once: a handler of our own would hide it.
    pub(super) fn ignored() -> Ignored {
        static IGNORED: OnceLock<Ignored> = OnceLock::new();
        *IGNORED.get_or_init(|| {
            let status = std::fs::read_to_string("/proc/self/status").ok();
            status.and_then(|status| in_status(&status)).unwrap_or_else(of_a_shell)
        })
    }

    /// What `/proc/PID/status` says: a mask in which the lowest bit is signal 1.
    fn in_status(status: &str) -> Option<Ignored> {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        let has = |signal: u32| mask & (1 << (signal - 1)) != 0;
        Some(Ignored { hang_up: has(1), interrupt: has(2) })
    }

    /// What a shell does that is started from here: one that is not interactive ignores what it finds ignored.
    fn of_a_shell() -> Ignored {
        let lives_through = |signal: &str| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &format!("kill -{signal} $$")]);
            shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Without a shell nothing is known, and the usual is that nothing is ignored.
            shell.status().is_ok_and(|status| status.success())
        };
        Ignored { hang_up: lives_through("HUP"), interrupt: lives_through("INT") }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_mask_of_ignored_signals_is_read() {
            let status =
                |mask: &str| format!("Name:\treachback\nSigBlk:\t0000000000000003\nSigIgn:\t{mask}\nSigCgt:\t3\n");
            let ignored = |hang_up, interrupt| Some(Ignored { hang_up, interrupt });
            assert_eq!(in_status(&status("0000000000001000")), ignored(false, false));
            assert_eq!(in_status(&status("0000000000001001")), ignored(true, false));
            assert_eq!(in_status(&status("0000000000001006")), ignored(false, true));
            assert_eq!(in_status(&status("ffffffffffffffff")), ignored(true, true));
            for other in [status("x"), status(""), "Name:\treachback\n".to_owned()] {
                assert_eq!(in_status(&other), None, "{other}");
            }
        }

        #[test]
        fn a_shell_tells_the_same_as_the_system() {
            if let Some(told) = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| in_status(&text)) {
                assert_eq!(of_a_shell(), told);
            }
        }
    }
}
