//! What the environment says of the way from this computer to others: the proxy on it, and whose certificates count.

use std::ffi::OsString;

use reachback_proto::pairing::Origin;
use url::Host;

use super::authorities::Authorities;
use super::proxy::{Proxies, Proxy};

/// Proxies and authorities. By default no proxy, and those whom the system trusts.
#[derive(Debug, Clone, Default)]
pub struct WayOut {
    /// Which proxy leads where.
    pub proxies: Proxies,
    /// Whose certificates count.
    pub authorities: Authorities,
}

impl WayOut {
    /// What these variables of the environment say.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self { proxies: Proxies::of(&variable), authorities: Authorities::of(&variable) }
    }

    /// The same without a proxy: for what this very process listens on.
    pub fn without_proxies(self) -> Self {
        Self { proxies: Proxies::default(), ..self }
    }

    /// The proxy on the way to a relay. There is none for one without TLS, which a proxy could read.
    pub(super) fn proxy(&self, relay: &Origin) -> Option<Proxy> {
        let host = Host::parse(&relay.host()).ok().filter(|_| relay.is_secure())?;
        self.proxies.on_the_way_to(&host, relay.port())
    }
}
