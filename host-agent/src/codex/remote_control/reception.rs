//! Who pairs and lists devices for Codex: the agent, as soon as it has started.
//!
//! The agent owns the backend, so the backend holds on to the agent no more than it has to.

use std::sync::{Arc, OnceLock, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::control::{ClientPage, Host, PairingCode, Unavailable};

/// A [`Host`] that comes later.
#[derive(Clone, Default)]
pub(super) struct Reception(Arc<OnceLock<Weak<dyn Host>>>);

impl Reception {
    /// From now on `host` answers. Only the first one does.
    pub(super) fn open(&self, host: Weak<dyn Host>) {
        let _second = self.0.set(host);
    }

    fn host(&self) -> Result<Arc<dyn Host>, Unavailable> {
        let host = self.0.get().and_then(Weak::upgrade);
        host.ok_or_else(|| Unavailable("The agent is starting or stopping: try again in a moment".to_owned()))
    }
}

impl Host for Reception {
    fn pair(&self) -> BoxFuture<'_, Result<PairingCode, Unavailable>> {
        async { self.host()?.pair().await }.boxed()
    }

    fn claimed<'a>(&'a self, code: &'a str) -> BoxFuture<'a, bool> {
        async move {
            match self.host() {
                Ok(host) => host.claimed(code).await,
                Err(_) => false,
            }
        }
        .boxed()
    }

    fn clients<'a>(&'a self, limit: usize, cursor: Option<&'a str>) -> BoxFuture<'a, Result<ClientPage, Unavailable>> {
        async move { self.host()?.clients(limit, cursor).await }.boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<bool, Unavailable>> {
        async move { self.host()?.revoke(client_id).await }.boxed()
    }
}
