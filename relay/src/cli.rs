//! Command line, environment and file of `reachback-relay`, merged into one [`Config`].
//!
//! A flag wins over its environment variable (`REACHBACK_RELAY_…`), which wins
//! over the file, which wins over the default.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use reachback_proto::words::{printable_lines, quote};
use reachback_relay::arguments::listen_address;
use reachback_relay::manual::Manual;
use reachback_relay::service::journal::Journal;
use reachback_relay::{Config, Limits, Quic, Relay, Tls};
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// The blind relay of Reachback: hosts dial out to it, devices meet them through it, and it reads nothing.
#[derive(Debug, Parser)]
#[command(name = "reachback-relay", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to log to standard error: a level, or `target=level` pairs.
    #[arg(long, global = true, env = "REACHBACK_RELAY_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const SERVE_EXAMPLES: &str = "Examples:\n  \
    reachback-relay serve\n  \
    reachback-relay serve --listen 0.0.0.0:443 \\\n  \
    \u{20}   --public-url https://relay.example \\\n  \
    \u{20}   --tls-cert fullchain.pem --tls-key privkey.pem";

const HEALTH_EXAMPLES: &str = "Examples:\n  \
    reachback-relay health --config /etc/reachback/relay.toml\n  \
    reachback-relay health --url https://relay.example";

const INSTALL_EXAMPLES: &str = "Examples:\n  \
    sudo reachback-relay install --listen 0.0.0.0:443 \\\n  \
    \u{20}   --public-url https://relay.example \\\n  \
    \u{20}   --tls-cert /etc/reachback/fullchain.pem \\\n  \
    \u{20}   --tls-key /etc/reachback/privkey.pem\n  \
    sudo reachback-relay install --config /etc/reachback/relay.toml --dry-run";

const LOGS_EXAMPLES: &str = "Examples:\n  \
    sudo reachback-relay logs -f       follow it; Ctrl-C ends that\n  \
    reachback-relay logs -n 1000";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the relay.
    ///
    /// Without options it listens on http://127.0.0.1:7420, for hosts and devices of this machine or behind a TLS
    /// proxy. For a network, name an address and protect it, as below.
    ///
    /// Without certificate files it makes a certificate from its own key: laptops that pin the fingerprint accept it,
    /// browsers don't. The first host enrols with the key in DATA/enroll-key.
    ///
    /// SIGTERM, Ctrl-C or a terminal that is closed: peers are told when to come back, and links end in order; a second
    /// one cuts them.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        #[command(flatten)]
        options: Options,
        /// Print one line of JSON when ready: {"event":"ready","url":…,"fingerprint":…,"enroll_file":…}.
        #[arg(long)]
        json: bool,
    },
    /// Make a one-time key with which one more host can enrol, and print the file that holds it.
    ///
    /// The key works for an hour. Bring the file to the host: `reachback host --relay URL --enroll-file FILE`.
    /// The relay may be running.
    Enroll {
        #[command(flatten)]
        options: Options,
    },
    /// Print the configuration in effect, every limit included, as a file that --config reads.
    Config {
        #[command(flatten)]
        options: Options,
    },
    /// Ask whether the relay answers, and exit with 0 or 1: for a container's health check, or a script.
    ///
    /// Give it what `serve` was given, as options, in the environment or as a file: the relay is then asked on this
    /// machine, plain or over TLS as it listens. Or say where with --url. `/healthz` has to answer 200 within 3 s.
    /// Certificates are not checked: this tells whether a relay is there, not whose it is.
    #[command(after_help = HEALTH_EXAMPLES)]
    Health {
        #[command(flatten)]
        options: Options,
        /// The relay to ask, in place of the one that the configuration describes: https://HOST[:PORT].
        #[arg(long, value_name = "URL")]
        url: Option<Url>,
    },
    /// Run the relay as a service of this machine (Linux with systemd): from now on, and after each start.
    ///
    /// As root it writes /etc/systemd/system/reachback-relay.service, for an account `reachback` that is made if it is
    /// not there, with data in /var/lib/reachback-relay. Anybody else gets a unit of their own, in
    /// ~/.config/systemd/user, with data in ~/.local/state/reachback-relay. Say the options as for `serve`; they are
    /// kept in the unit. Say it again with other options, or by a newer program at another place, and the relay starts
    /// anew with those: hosts and devices come back by themselves. Every file and command is told.
    #[command(after_help = INSTALL_EXAMPLES)]
    Install {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        how: How,
    },
    /// Stop the service that `install` made, and remove its unit. Data, keys and the account stay.
    Uninstall {
        #[command(flatten)]
        how: How,
    },
    /// Show the journal of the service that `install` made, the newest lines last.
    ///
    /// As root that of the machine's relay, else that of your own.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs {
        #[command(flatten)]
        journal: Journal,
    },
    #[command(flatten)]
    Manual(Manual),
}

/// How a change of the machine is done and told.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct How {
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print each step as a line of JSON: {"event":"service","did":"wrote","path":…}.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Configuration file (TOML); `reachback-relay config` prints one.
    #[arg(long, env = "REACHBACK_RELAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the database and the relay's key, for this user only [default: reachback-relay].
    #[arg(long, env = "REACHBACK_RELAY_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on, with a port if it is not 7420; port 0 takes a free one [default: 127.0.0.1:7420].
    #[arg(long, env = "REACHBACK_RELAY_LISTEN", value_name = "ADDR", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// The address that hosts and devices use, when it is another: https://HOST[:PORT].
    #[arg(long, env = "REACHBACK_RELAY_PUBLIC_URL", value_name = "URL")]
    public_url: Option<Url>,
    /// Protection of connections; certificate files go before it [default: auto].
    #[arg(long, env = "REACHBACK_RELAY_TLS", value_name = "MODE")]
    tls: Option<TlsMode>,
    /// Certificate chain, PEM, leaf first.
    #[arg(long, env = "REACHBACK_RELAY_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key, PEM.
    #[arg(long, env = "REACHBACK_RELAY_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// QUIC for hosts and laptops, on the UDP port of the same number [default: auto].
    #[arg(long, env = "REACHBACK_RELAY_QUIC", value_name = "WHEN")]
    quic: Option<Quic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TlsMode {
    /// None on loopback, generated elsewhere.
    #[default]
    Auto,
    /// None; only on loopback.
    Off,
    /// A certificate made from the relay's own key.
    Generated,
}

/// The configuration file. Everything is optional.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    data: Option<PathBuf>,
    #[serde(deserialize_with = "listen_of_file")]
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    tls: Option<TlsMode>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    quic: Option<Quic>,
    names: Vec<String>,
    web_origins: Vec<String>,
    trusted_proxies: Vec<String>,
    proxy_protocol: bool,
    public_metrics: bool,
    metrics_from: Vec<String>,
    limits: Limits,
}

impl Cli {
    /// What it exits with when the configuration can't be used. Docker keeps 2 for itself where it asks for health.
    pub(crate) fn misconfigured(&self) -> u8 {
        if matches!(self.command, Command::Health { .. }) { 1 } else { 2 }
    }

    /// The configuration in effect, checked.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let (Command::Serve { options, .. }
        | Command::Enroll { options }
        | Command::Config { options }
        | Command::Health { options, .. }
        | Command::Install { options, .. }) = &self.command
        else {
            return Ok(Config::default());
        };
        let file = options.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let config = merge(options, file)?;
        config.validate()?;
        Ok(config)
    }
}

impl Options {
    /// The options as one types them, with whole paths, for a relay whose data is in `data`.
    pub(crate) fn words(&self, data: &str) -> Vec<String> {
        let file = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
        let value = |value: clap::builder::PossibleValue| value.get_name().to_owned();
        let options = [
            ("--config", self.config.as_ref().map(file)),
            ("--data", Some(data.to_owned())),
            ("--listen", self.listen.map(|listen| listen.to_string())),
            ("--public-url", self.public_url.as_ref().map(Url::to_string)),
            ("--tls", self.tls.as_ref().and_then(ValueEnum::to_possible_value).map(value)),
            ("--tls-cert", self.tls_cert.as_ref().map(file)),
            ("--tls-key", self.tls_key.as_ref().map(file)),
            ("--quic", self.quic.as_ref().and_then(ValueEnum::to_possible_value).map(value)),
        ];
        let said = options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        said.flatten().collect()
    }
}

fn listen_of_file<'de, D: Deserializer<'de>>(file: D) -> Result<Option<SocketAddr>, D::Error> {
    listen_address(&String::deserialize(file)?).map(Some).map_err(serde::de::Error::custom)
}

fn read(path: &Path) -> anyhow::Result<FileConfig> {
    let text = fs::read_to_string(path).with_context(|| format!("{} could not be read", quote(path.display())))?;
    toml::from_str(&text).with_context(|| format!("{} is not a configuration", quote(path.display())))
}

fn merge(options: &Options, file: FileConfig) -> anyhow::Result<Config> {
    let default = Config::default();
    let public_url = match file.public_url {
        Some(url) => Some(url.parse().with_context(|| format!("public_url {} is not a URL", quote(&url)))?),
        None => None,
    };
    let web_origin = |text: &String| text.parse().with_context(|| format!("web_origins: {} is not a URL", quote(text)));
    let web_origins = file.web_origins.iter().map(web_origin).collect::<Result<_, _>>()?;
    let trusted_proxies = networks("trusted_proxies", &file.trusted_proxies)?;
    let metrics_from = networks("metrics_from", &file.metrics_from)?;
    // Files that a flag names go together; half of a pair from the file would not fit them.
    let (cert, key) = match &options.tls_cert {
        Some(_) => (options.tls_cert.clone(), options.tls_key.clone()),
        None => (file.tls_cert, file.tls_key),
    };
    let tls = match (cert, key, options.tls.or(file.tls).unwrap_or_default()) {
        (Some(cert), Some(key), _) => Tls::Files { cert, key },
        (None, None, TlsMode::Auto) => Tls::Auto,
        (None, None, TlsMode::Off) => Tls::Off,
        (None, None, TlsMode::Generated) => Tls::Generated,
        _ => bail!("a certificate needs its key: set both tls_cert and tls_key"),
    };
    Ok(Config {
        data: options.data.clone().or(file.data).unwrap_or(default.data),
        listen: options.listen.or(file.listen).unwrap_or(default.listen),
        public_url: options.public_url.clone().or(public_url),
        tls,
        quic: options.quic.or(file.quic).unwrap_or_default(),
        names: file.names,
        web_origins,
        trusted_proxies,
        proxy_protocol: file.proxy_protocol,
        public_metrics: file.public_metrics,
        metrics_from,
        enroll_file: true,
        limits: file.limits,
    })
}

/// The addresses and networks that a setting lists.
fn networks(setting: &str, listed: &[String]) -> anyhow::Result<Vec<IpNet>> {
    let network = |text: &String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.with_context(|| {
            format!("{setting}: {} is no address and no network: give 127.0.0.1 or 10.0.0.0/8", quote(text))
        })
    };
    listed.iter().map(network).collect()
}

/// The configuration as a file.
pub(crate) fn to_toml(config: &Config) -> anyhow::Result<String> {
    let (tls, cert, key) = match &config.tls {
        Tls::Auto => (Some(TlsMode::Auto), None, None),
        Tls::Off => (Some(TlsMode::Off), None, None),
        Tls::Generated => (Some(TlsMode::Generated), None, None),
        Tls::Files { cert, key } => (None, Some(cert.clone()), Some(key.clone())),
    };
    let file = FileConfig {
        data: Some(config.data.clone()),
        listen: Some(config.listen),
        public_url: config.public_url.as_ref().map(ToString::to_string),
        tls,
        tls_cert: cert,
        tls_key: key,
        quic: Some(config.quic),
        names: config.names.clone(),
        web_origins: config.web_origins.iter().map(ToString::to_string).collect(),
        trusted_proxies: config.trusted_proxies.iter().map(ToString::to_string).collect(),
        proxy_protocol: config.proxy_protocol,
        public_metrics: config.public_metrics,
        metrics_from: config.metrics_from.iter().map(ToString::to_string).collect(),
        limits: config.limits.clone(),
    };
    Ok(toml::to_string_pretty(&file)?)
}

/// The ready line for programs.
pub(crate) fn ready_json(relay: &Relay) -> String {
    serde_json::json!({
        "event": "ready",
        "url": origin(relay),
        "fingerprint": relay.fingerprint(),
        "enroll_file": relay.enroll_file(),
    })
    .to_string()
}

/// The same for a person, with the next step.
pub(crate) fn ready_text(relay: &Relay) -> String {
    let mut lines =
        vec![format!("Relay ready at {}", origin(relay)), format!("Fingerprint    {}", relay.fingerprint())];
    if let Some(path) = relay.enroll_file() {
        lines.push(format!(
            "No host has enrolled yet. The key is in {} (one hour, renewed). On the host:",
            quote(path.display())
        ));
        lines.push(format!("    reachback host --relay {} --enroll-file FILE", origin(relay)));
    }
    printable_lines(&lines.join("\n"))
}

fn origin(relay: &Relay) -> String {
    relay.url().origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> anyhow::Result<Config> {
        Cli::try_parse_from([&["reachback-relay", "serve"], args].concat())?.config()
    }

    #[test]
    fn flags_win_over_the_file_and_the_printed_file_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        fs::write(&path, "listen = '127.0.0.1:1'\nnames = ['a.example']\ntrusted_proxies = ['127.0.0.1', '10.0.0.0/8', '::1']\nmetrics_from = ['172.30.74.4']\n[limits]\nspares_per_host = 9\n").unwrap();
        let read = config(&["--config", path.to_str().unwrap(), "--listen", "127.0.0.1:2"]).unwrap();
        assert_eq!(read.listen.port(), 2);
        let proxies: Vec<_> = read.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(proxies, ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]);
        assert_eq!(read.metrics_from, ["172.30.74.4/32".parse().unwrap()]);
        assert_eq!(read.limits, Limits { spares_per_host: 9, ..Limits::default() });

        fs::write(&path, to_toml(&read).unwrap()).unwrap();
        assert_eq!(config(&["--config", path.to_str().unwrap()]).unwrap(), read);
        fs::write(&path, "listen = '127.0.0.2'\n").unwrap();
        assert_eq!(config(&["--config", path.to_str().unwrap()]).unwrap().listen.to_string(), "127.0.0.2:7420");
    }

    #[test]
    fn the_sample_configuration_is_one() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/relay.toml");
        let read = config(&["--config", sample]).unwrap();
        assert_eq!(read.public_url.unwrap().as_str(), "https://relay.example/");
        // The one of docker-compose.yml, which says the public URL in the environment.
        let composed = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/compose/relay.toml");
        let read = config(&["--config", composed, "--public-url", "https://relay.example"]).unwrap();
        assert!(read.names.contains(&"relay".to_owned()) && !read.public_metrics, "{read:?}");
        assert_eq!((read.trusted_proxies.len(), read.metrics_from.len()), (1, 1));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        fs::write(&path, "lissten = '127.0.0.1:1'\n").unwrap();
        let error = config(&["--config", path.to_str().unwrap()]).unwrap_err();
        assert!(format!("{error:#}").contains("lissten"), "{error:#}");
        for setting in ["trusted_proxies", "metrics_from"] {
            fs::write(&path, format!("{setting} = ['prometheus']\n")).unwrap();
            let error = config(&["--config", path.to_str().unwrap()]).unwrap_err();
            assert!(format!("{error:#}").contains(setting), "{error:#}");
        }
        fs::write(&path, "tls_cert = 'cert.pem'\n").unwrap();
        assert!(config(&["--config", path.to_str().unwrap()]).is_err());
        let plain = config(&["--listen", "192.0.2.1:80", "--tls", "off"]).unwrap_err();
        assert!(plain.to_string().contains("plain HTTP"), "{plain}");
        assert!(config(&["--tls-cert", "cert.pem"]).is_err());
    }
}
