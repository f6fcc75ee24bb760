//! A Codex that somebody else starts, such as the Codex App's: it comes as it likes, and goes.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::SystemRandom;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Supervisor;
use crate::codex::remote_control::enrolment::Enrolment;
use crate::codex::remote_control::http;
use crate::codex::remote_control::redirect::Redirect;
use crate::codex::supervision::RESTARTS;
use crate::codex::{Adapter, CodexState, Instance, StartedBy};

/// So long without a socket, and it is gone: one that only lost its socket is back after three seconds.
const GONE: Duration = Duration::from_secs(10);

/// What is waited for.
const WAITING: &str = "waiting for the Codex App";
/// What makes it come. Codex reads its configuration when it starts.
const OPEN_IT: &str = "open the Codex App (quit it first, if it was open already), and turn remote control on there";

impl Supervisor {
    /// Has Codex's configuration lead here, and waits for whom that brings, until the wish or the agent ends.
    pub(super) async fn receive(&self, redirect: &Arc<Redirect>, enrolment: Enrolment, listener: TcpListener) {
        let leading = match redirect.lead(&enrolment.base_url()) {
            Ok(leading) => leading,
            Err(error) => {
                self.say_failed(error.reason(), error.fix());
                return self.until_said_again(redirect).await;
            }
        };
        tracing::info!("codex's config.toml leads to this agent");
        // Those of before were of another Codex.
        self.clients.forget_all();
        self.run.send_replace(None);
        // Which of this user's programs it will be is not known.
        self.callers.user();
        let closed = CancellationToken::new();
        let parts = self.parts(enrolment, Some(leading.upstream.clone()));
        let visits = async {
            tokio::select! {
                () = self.until_wanted(redirect, false) => {}
                () = self.welcome() => {}
            }
            // First: whoever gets the port after this agent is not to be led to.
            drop(leading);
            self.callers.nobody();
            self.clients.forget_all();
            closed.cancel();
        };
        tokio::join!(http::serve(parts, listener, closed.clone()), visits);
    }

    /// Says who is here. Never ends.
    async fn welcome(&self) {
        let mut connected = self.clients.connected();
        let mut run = self.run.subscribe();
        loop {
            let (reason, fix) = (WAITING.to_owned(), OPEN_IT.to_owned());
            self.state.send_replace(CodexState::Waiting { reason, fix });
            // The senders live as long as this does.
            let _ = connected.wait_for(|connected| *connected).await;
            loop {
                let Some(instance) = *run.borrow_and_update() else { break };
                tracing::info!(adapter = %Adapter::RemoteControl, %instance, "codex has come");
                let ready = CodexState::Ready { version: None, started_by: StartedBy::Others, instance };
                tokio::select! {
                    () = self.stays_away(GONE) => break,
                    // Never: it is somebody else's.
                    () = self.attend(ready) => break,
                    _ = run.changed() => {}
                }
            }
            tracing::info!(adapter = %Adapter::RemoteControl, "codex is gone");
            self.clients.forget_all();
            // If the same one comes back, it is another run to everybody: what they had open there is gone.
            match Instance::random(&SystemRandom::new()) {
                Some(instance) => drop(self.run.send_replace(Some(instance))),
                None => tracing::error!("codex can't be served: the operating system gave no randomness"),
            }
        }
    }

    /// Ends when the wish is `wanted`, or the agent stops.
    pub(super) async fn until_wanted(&self, redirect: &Redirect, wanted: bool) {
        let mut wish = redirect.wanted();
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = wish.wait_for(|is_wanted| *is_wanted == wanted) => {}
        }
    }

    /// Ends when the owner says anything about it, the agent stops, or it is time to try again.
    async fn until_said_again(&self, redirect: &Redirect) {
        let mut wish = redirect.wanted();
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = wish.changed() => {}
            () = tokio::time::sleep(RESTARTS.max) => {}
        }
    }
}
