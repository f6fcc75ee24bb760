//! What the environment says of the way from this computer to others: the proxy on it, and whose certificates count.

use std::ffi::OsString;
use std::net::IpAddr;

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

    /// The proxy on the way to a relay. There is none for one on this computer, and for one without TLS, which a proxy could
    /// read.
    pub(super) fn proxy(&self, relay: &Origin) -> Option<Proxy> {
        let host = Host::parse(&relay.host()).ok().filter(|host| relay.is_secure() && !is_this_computer(host))?;
        self.proxies.on_the_way_to(&host, relay.port())
    }
}

fn is_this_computer(host: &Host) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).to_canonical().is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_computer_goes_through_no_proxy() {
        let environment = |name: &str| (name == "ALL_PROXY").then(|| "http://p:1".into());
        let is_direct = |host: &str| {
            let relay: Origin = format!("https://{host}").parse().unwrap();
            WayOut::of(environment).proxy(&relay).is_none()
        };
        for here in
            ["localhost", "LOCALHOST", "relay.localhost", "127.0.0.1", "127.1.2.3:7420", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(is_direct(here), "{here}");
        }
        for there in ["localhost.example", "notlocalhost", "128.0.0.1", "[::2]"] {
            assert!(!is_direct(there), "{there}");
        }
    }
}
