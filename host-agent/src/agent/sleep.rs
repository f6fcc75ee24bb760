//! What is done before this machine sleeps, and once it is awake again.
//!
//! Devices hear it from this host, sealed, as a notice of the API: what a relay says of a host that is gone is only that it
//! is gone. Then the tunnel and the links are ended, so that the relay and who dials know at once that nobody is there.
//! Sessions stay: a device that comes back goes on where it was. Connections to SSH hosts stay, too; whether they are still
//! good is asked as soon as the machine is awake.
//!
//! All of that takes a second, for which logind waits. Where it does not (another user may have the machine sleep by force,
//! or this one may not ask for the time), a device sees a host that is away.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::api::{Notice, Notices};
use super::sessions::Sessions;
use super::ssh_hosts::SshHosts;
use super::tunnel::Tunnel;
use crate::platform::awake::{Machine, Sleep, SleepWatch};

/// Until it is looked again for who tells when the machine sleeps.
const AGAIN: Duration = Duration::from_secs(600);
/// For so long what was said has time to go out; on a link that is slower a device sees a host that is away.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// See the module's header.
pub(super) struct Sleeps {
    pub(super) machine: Machine,
    pub(super) sessions: Arc<Sessions>,
    pub(super) tunnel: Arc<Tunnel>,
    pub(super) notices: Notices,
    pub(super) ssh_hosts: Arc<SshHosts>,
}

impl Sleeps {
    /// Goes on for ever, unless nobody tells it on this system.
    pub(super) async fn run(self) {
        loop {
            match self.machine.watch_sleep().await {
                Ok(watch) => self.follow(watch).await,
                #[cfg(not(target_os = "linux"))]
                Err(crate::platform::awake::AwakeError::NoWay) => return,
                Err(error) => tracing::debug!(%error, "nobody tells when this machine sleeps"),
            }
            sleep(AGAIN).await;
        }
    }

    async fn follow(&self, mut watch: SleepWatch) {
        tracing::debug!("it is told when this machine sleeps");
        while let Some(now) = watch.next().await {
            match now {
                Sleep::Begins => {
                    tracing::info!("this machine goes to sleep");
                    self.notices.tell(Notice::HostAsleep {});
                    sleep(LAST_WORDS).await;
                    self.tunnel.rest();
                    self.sessions.part().await;
                    watch.ready();
                }
                Sleep::Ends => {
                    tracing::info!("this machine is awake");
                    self.tunnel.wake();
                    self.ssh_hosts.probe();
                }
            }
        }
        self.tunnel.wake();
    }
}
