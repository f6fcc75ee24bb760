//! The names that this relay answers to, and the web origins it trusts.

use std::collections::HashSet;
use std::net::IpAddr;

use axum::http::uri::Authority;
use url::Url;

use crate::config::Config;

/// Names of the relay.
#[derive(Debug)]
pub(crate) struct Names {
    hosts: HashSet<String>,
    public_origin: Option<String>,
    web_origins: HashSet<String>,
    plain: bool,
}

impl Names {
    /// The names in a configuration: its public URL, its address, its list, and loopback.
    pub(crate) fn new(config: &Config) -> Self {
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let listed = config.names.iter().map(|name| bare(name));
        let public = config.public_url.as_ref().and_then(Url::host_str).map(bare);
        let hosts = loopback.into_iter().chain(listed).chain(public).chain([config.listen.ip().to_string()]);
        Self {
            hosts: hosts.collect(),
            public_origin: config.public_url.as_ref().map(|url| url.origin().ascii_serialization()),
            web_origins: config.web_origins.iter().map(|url| url.origin().ascii_serialization()).collect(),
            plain: config.is_plain(),
        }
    }

    /// Whether a request for this authority (a `Host` header) is for this relay. Ports don't matter: proxies change them.
    pub(crate) fn answers_to(&self, authority: &str) -> bool {
        authority.parse::<Authority>().is_ok_and(|authority| self.hosts.contains(&bare(authority.host())))
    }

    /// Whether a browser page of this origin may open links: the relay's own, as it was addressed or as it is published,
    /// and those that the configuration lists.
    pub(crate) fn trusts_origin(&self, origin: &str, authority: &str) -> bool {
        if self.public_origin.as_deref() == Some(origin) || self.web_origins.contains(origin) {
            return true;
        }
        let scheme = if self.plain { "http" } else { "https" };
        let own = Url::parse(&format!("{scheme}://{authority}")).map(|url| url.origin());
        let theirs = Url::parse(origin).map(|url| url.origin());
        matches!((own, theirs), (Ok(own), Ok(theirs)) if own.is_tuple() && own == theirs)
    }

    /// What the relay's own certificate is for: names and addresses.
    pub(crate) fn subjects(&self) -> (Vec<String>, Vec<IpAddr>) {
        let mut names: Vec<_> = self.hosts.iter().filter(|host| host.parse::<IpAddr>().is_err()).cloned().collect();
        let mut addresses: Vec<IpAddr> = self.hosts.iter().filter_map(|host| host.parse().ok()).collect();
        names.sort();
        addresses.sort();
        (names, addresses)
    }
}

/// A host name as it is compared: lower case, no brackets, no final dot.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let public_url = Some("https://Relay.example:8443".parse().unwrap());
        let listen = "192.0.2.7:7420".parse().unwrap();
        let web_origins = vec!["https://App.example:443".parse().unwrap()];
        Names::new(&Config {
            listen,
            public_url,
            names: vec!["alias.example".into()],
            web_origins,
            ..Config::default()
        })
    }

    #[test]
    fn a_relay_answers_to_its_names_and_to_no_other() {
        let names = names();
        for own in ["relay.example:8443", "RELAY.example.", "alias.example", "192.0.2.7:1", "localhost", "[::1]:7420"] {
            assert!(names.answers_to(own), "{own}");
        }
        for other in ["evil.example", "relay.example.evil.example", "", "192.0.2.8", "relay.example/", "a@b c"] {
            assert!(!names.answers_to(other), "{other}");
        }
        let (certified, addresses) = names.subjects();
        assert_eq!(certified, ["alias.example", "localhost", "relay.example"]);
        assert!(addresses.contains(&[192, 0, 2, 7].into()));
    }

    #[test]
    fn only_the_own_origin_and_those_listed_are_trusted() {
        let names = names();
        assert!(names.trusts_origin("https://app.example", "relay.example:8443"));
        assert!(!names.answers_to("app.example"), "a page from there is trusted, its name is not the relay's");
        assert!(names.trusts_origin("https://relay.example:8443", "anything"));
        assert!(names.trusts_origin("https://alias.example", "alias.example"));
        assert!(names.trusts_origin("https://alias.example", "alias.example:443"));
        for other in [
            "null",
            "https://evil.example",
            "http://alias.example",
            "https://alias.example:1",
            "http://app.example",
            "https://app.example:8443",
            "",
        ] {
            assert!(!names.trusts_origin(other, "alias.example"), "{other}");
        }
    }
}
