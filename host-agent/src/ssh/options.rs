//! What becomes of each option of an SSH configuration: done here, without effect on whom one trusts and on the way
//! there, or refused.
//!
//! An option that is not heeded and says whose key is good, or where a connection goes, would silently mean something
//! else than in a terminal. So [`OPTIONS`] has every keyword that `ssh -G` writes, and a test asks the `ssh` that is
//! installed whether it writes another one.

use super::settings::Settings;

/// What becomes of an option.
pub(super) enum Fate {
    /// It means here what it means to OpenSSH, or is answered by `ssh -G` itself.
    Done,
    /// Never more than it allows is done: whatever it says, a machine gets less, or a way in is not taken.
    Less,
    /// It is about a terminal, forwardings, logs or pace, which are no business of a connection for Codex.
    Aside,
    /// It is done here for some of what it may say, and refused where this finds the rest.
    Refused(fn(&Settings, Position) -> bool, Refusal),
}

/// Where a machine stands on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// It is gone to from this computer.
    First,
    /// It is gone to through the one before it. What its configuration says of the network here does not count there.
    Behind,
}

/// Why a configuration is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The option, as the person wrote it.
    pub option: &'static str,
    /// What is in the way, after the option's name.
    pub why: &'static str,
    /// What a person can do about it.
    pub fix: &'static str,
}

const KEYS_COMMAND: Refusal = Refusal {
    option: "KnownHostsCommand",
    why: "which Reachback does not run: it would not know which keys are good",
    fix: "write the keys that the command gives to a file, and name that with GlobalKnownHostsFile in place of it",
};
const REVOKED: Refusal = Refusal {
    option: "RevokedHostKeys",
    why: "which Reachback does not read: a key that it revokes would be taken",
    fix: "write each of its keys to a known_hosts file, as “@revoked * KEY”, and leave RevokedHostKeys out for this machine",
};
const INTERFACE: Refusal = Refusal {
    option: "BindInterface",
    why: "which Reachback can't do: the connection would leave by another one",
    fix: "name an address of that interface in its place, with BindAddress",
};
const PASSED: Refusal = Refusal {
    option: "ProxyUseFdpass",
    why: "which Reachback does not do: its ProxyCommand hands over a connection in place of carrying it",
    fix: "give the machine a ProxyCommand that carries the connection (as nc does without -F), and leave ProxyUseFdpass out",
};
const FAR_COMMAND: Refusal = Refusal {
    option: "RemoteCommand",
    why: "and Reachback runs commands of its own there, which would not be where that one leads",
    fix: "give the machine a second name in the SSH configuration, without RemoteCommand, and add that one",
};
const NO_COMMANDS: Refusal = Refusal {
    option: "SessionType",
    why: "and Reachback has to run commands there",
    fix: "give the machine a second name in the SSH configuration, without SessionType, and add that one",
};
const BY_ADDRESS: Refusal = Refusal {
    option: "CheckHostIP",
    why: "with StrictHostKeyChecking yes, and Reachback knows machines by name alone, not by address too",
    fix: "leave CheckHostIP out for this machine, as OpenSSH does since 8.5",
};
const NO_CONNECTION: Refusal = Refusal {
    option: "RefuseConnection",
    why: "so nothing connects to it",
    fix: "see why the SSH configuration says so, and leave it out for this machine if it may be gone to",
};

/// Keywords as `ssh -G` writes them, with those of OpenSSH 10 and of Debian's patches.
pub(super) const OPTIONS: &[(&str, Fate)] = &[
    ("host", Fate::Done),
    ("hostname", Fate::Done),
    ("port", Fate::Done),
    ("user", Fate::Done),
    ("proxyjump", Fate::Done),
    ("proxycommand", Fate::Done),
    ("addressfamily", Fate::Done),
    ("bindaddress", Fate::Done),
    ("connecttimeout", Fate::Done),
    ("serveraliveinterval", Fate::Done),
    ("serveralivecountmax", Fate::Done),
    ("canonicaldomains", Fate::Done),
    ("canonicalizefallbacklocal", Fate::Done),
    ("canonicalizehostname", Fate::Done),
    ("canonicalizemaxdots", Fate::Done),
    ("canonicalizepermittedcnames", Fate::Done),
    ("ignoreunknown", Fate::Done),
    ("tag", Fate::Done),
    // Whom one trusts.
    ("hostkeyalias", Fate::Done),
    ("userknownhostsfile", Fate::Done),
    ("globalknownhostsfile", Fate::Done),
    ("hashknownhosts", Fate::Done),
    // `no` and `accept-new` would take keys that nobody looked at, and mean `ask` here.
    ("stricthostkeychecking", Fate::Done),
    ("requiredrsasize", Fate::Done),
    ("hostkeyalgorithms", Fate::Done),
    ("casignaturealgorithms", Fate::Done),
    ("kexalgorithms", Fate::Done),
    ("ciphers", Fate::Done),
    ("macs", Fate::Done),
    ("knownhostscommand", Fate::Refused(|all, _| all.one("knownhostscommand").is_some(), KEYS_COMMAND)),
    ("revokedhostkeys", Fate::Refused(|all, _| all.one("revokedhostkeys").is_some(), REVOKED)),
    // Without StrictHostKeyChecking it adds a warning.
    (
        "checkhostip",
        Fate::Refused(
            |all, at| {
                let is_dialled = at == Position::First && all.proxy_command().is_none();
                is_dialled && all.is_on("checkhostip") && all.is_on("stricthostkeychecking")
            },
            BY_ADDRESS,
        ),
    ),
    ("verifyhostkeydns", Fate::Less),
    ("nohostauthenticationforlocalhost", Fate::Less),
    ("updatehostkeys", Fate::Less),
    // The way.
    ("bindinterface", Fate::Refused(|all, at| at == Position::First && all.one("bindinterface").is_some(), INTERFACE)),
    (
        "proxyusefdpass",
        Fate::Refused(
            |all, at| at == Position::First && all.proxy_command().is_some() && all.is_on("proxyusefdpass"),
            PASSED,
        ),
    ),
    ("refuseconnection", Fate::Refused(|all, _| all.one("refuseconnection").is_some(), NO_CONNECTION)),
    ("remotecommand", Fate::Refused(|all, _| all.one("remotecommand").is_some(), FAR_COMMAND)),
    (
        "sessiontype",
        Fate::Refused(|all, _| all.first("sessiontype").is_some_and(|kind| kind != "default"), NO_COMMANDS),
    ),
    // Who one is.
    ("identityfile", Fate::Done),
    ("certificatefile", Fate::Done),
    ("identityagent", Fate::Done),
    ("identitiesonly", Fate::Done),
    ("pubkeyauthentication", Fate::Done),
    ("kbdinteractiveauthentication", Fate::Done),
    ("passwordauthentication", Fate::Done),
    // Which ways there are. Their order is ours: keys, then what is typed.
    ("preferredauthentications", Fate::Done),
    ("pubkeyacceptedalgorithms", Fate::Done),
    // Nobody is asked but at a terminal where a person wants to be; and none whether a key is good.
    ("batchmode", Fate::Done),
    ("challengeresponseauthentication", Fate::Less),
    ("kbdinteractivedevices", Fate::Less),
    ("numberofpasswordprompts", Fate::Less),
    ("addkeystoagent", Fate::Less),
    ("pkcs11provider", Fate::Less),
    ("securitykeyprovider", Fate::Less),
    ("hostbasedauthentication", Fate::Less),
    ("hostbasedacceptedalgorithms", Fate::Less),
    ("enablesshkeysign", Fate::Less),
    ("gssapiauthentication", Fate::Less),
    ("gssapiclientidentity", Fate::Less),
    ("gssapidelegatecredentials", Fate::Less),
    ("gssapikexalgorithms", Fate::Less),
    ("gssapikeyexchange", Fate::Less),
    ("gssapirenewalforcesrekey", Fate::Less),
    ("gssapiserveridentity", Fate::Less),
    ("gssapitrustdns", Fate::Less),
    // What a machine would get: an agent, a display, variables, a way back.
    ("forwardagent", Fate::Less),
    ("forwardx11", Fate::Less),
    ("forwardx11timeout", Fate::Less),
    ("forwardx11trusted", Fate::Less),
    ("sendenv", Fate::Less),
    ("setenv", Fate::Less),
    ("dynamicforward", Fate::Less),
    ("localforward", Fate::Less),
    ("remoteforward", Fate::Less),
    ("permitremoteopen", Fate::Less),
    ("tunnel", Fate::Less),
    ("tunneldevice", Fate::Less),
    ("clearallforwardings", Fate::Less),
    ("localcommand", Fate::Less),
    ("permitlocalcommand", Fate::Less),
    ("controlmaster", Fate::Less),
    ("controlpath", Fate::Less),
    ("controlpersist", Fate::Less),
    ("channeltimeout", Fate::Aside),
    ("compression", Fate::Aside),
    ("connectionattempts", Fate::Aside),
    ("enableescapecommandline", Fate::Aside),
    ("escapechar", Fate::Aside),
    ("exitonforwardfailure", Fate::Aside),
    ("fingerprinthash", Fate::Aside),
    ("forkafterauthentication", Fate::Aside),
    ("gatewayports", Fate::Aside),
    ("ipqos", Fate::Aside),
    ("loglevel", Fate::Aside),
    ("logverbose", Fate::Aside),
    ("obscurekeystroketiming", Fate::Aside),
    ("rekeylimit", Fate::Aside),
    ("requesttty", Fate::Aside),
    ("stdinnull", Fate::Aside),
    ("streamlocalbindmask", Fate::Aside),
    ("streamlocalbindunlink", Fate::Aside),
    ("syslogfacility", Fate::Aside),
    ("tcpkeepalive", Fate::Aside),
    ("versionaddendum", Fate::Aside),
    ("visualhostkey", Fate::Aside),
    ("warnweakcrypto", Fate::Aside),
    ("xauthlocation", Fate::Aside),
];

/// The first option that can't be followed.
pub(super) fn refused(settings: &Settings, at: Position) -> Option<Refusal> {
    OPTIONS.iter().find_map(|(_, fate)| match fate {
        Fate::Refused(is_met, refusal) if is_met(settings, at) => Some(*refusal),
        _ => None,
    })
}

/// The option by which nobody is asked whether a key that is not known is good.
pub(super) fn asks_nobody(settings: &Settings) -> Option<&'static str> {
    if settings.is_on("stricthostkeychecking") {
        return Some("StrictHostKeyChecking yes");
    }
    settings.is_on("batchmode").then_some("BatchMode yes")
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    /// Keywords that `ssh -G` writes only where they are set.
    const OTHERWISE_UNSAID: &str = "Host box\n BindAddress 127.0.0.1\n BindInterface lo\n CertificateFile c\n ControlPath c\n \
        DynamicForward 1080\n GSSAPIClientIdentity a\n GSSAPIServerIdentity b\n HostKeyAlias k\n IdentityAgent none\n \
        IgnoreUnknown GSSAPI*,Tag,ChannelTimeout,ObscureKeystrokeTiming,RefuseConnection,VersionAddendum,WarnWeakCrypto\n \
        KbdInteractiveDevices pam\n KnownHostsCommand /bin/true\n LocalCommand true\n LocalForward 1 a:2\n \
        PKCS11Provider /x\n PreferredAuthentications publickey\n ProxyCommand nc %h %p\n RemoteCommand true\n \
        RemoteForward 3 b:4\n RevokedHostKeys r\n SetEnv A=b\n SendEnv X\n Tag t\n ChannelTimeout session=5m\n \
        RefuseConnection no\n VersionAddendum x\n";

    /// What the installed OpenSSH says of a configuration; `none` is that without any.
    fn said(config: &std::path::Path) -> String {
        let asked = std::process::Command::new("ssh").arg("-F").arg(config).args(["-G", "--", "box"]).output().unwrap();
        assert!(asked.status.success(), "{asked:?}");
        String::from_utf8(asked.stdout).unwrap()
    }

    fn set(config: &str) -> Settings {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("Host box\n{config}\n")).unwrap();
        Settings::parse(&said(file.path()))
    }

    #[test]
    fn it_is_decided_what_becomes_of_every_option_that_openssh_writes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), OTHERWISE_UNSAID).unwrap();
        let (all, plain) = (said(file.path()), said("none".as_ref()));
        assert!(all.lines().count() > plain.lines().count(), "{all}");
        for line in all.lines().chain(plain.lines()) {
            let keyword = line.split(' ').next().unwrap().to_ascii_lowercase();
            let times = OPTIONS.iter().filter(|(known, _)| *known == keyword).count();
            assert_eq!(times, 1, "`ssh -G` writes {line:?}: decide in OPTIONS whether it is done here, or refused");
        }
    }

    #[test]
    fn an_option_that_would_mean_something_else_here_is_refused_by_its_name() {
        for (config, option) in [
            ("KnownHostsCommand /bin/cat /etc/keys", "KnownHostsCommand"),
            ("RevokedHostKeys /etc/ssh/revoked", "RevokedHostKeys"),
            ("BindInterface eth9", "BindInterface"),
            ("ProxyCommand nc -F %h %p\nProxyUseFdpass yes", "ProxyUseFdpass"),
            ("RemoteCommand tmux attach", "RemoteCommand"),
            ("SessionType none", "SessionType"),
            ("SessionType subsystem\nRemoteCommand sftp", "RemoteCommand"),
            ("SessionType subsystem", "SessionType"),
            ("CheckHostIP yes\nStrictHostKeyChecking yes", "CheckHostIP"),
        ] {
            let refusal = refused(&set(config), Position::First).map(|refusal| refusal.option);
            assert_eq!(refusal, Some(option), "{config}");
        }
        // This `ssh` may not know it yet.
        let newer = Settings::parse("hostname box\nrefuseconnection ask Ada first\n");
        assert_eq!(refused(&newer, Position::Behind), Some(NO_CONNECTION));
    }

    #[test]
    fn what_is_set_to_nothing_or_does_not_count_there_is_not_refused() {
        for config in [
            "",
            "KnownHostsCommand none\nRevokedHostKeys none\nRemoteCommand none",
            "SessionType default\nProxyUseFdpass yes\nCheckHostIP yes",
            "CheckHostIP yes\nStrictHostKeyChecking yes\nProxyCommand nc %h %p",
        ] {
            assert_eq!(refused(&set(config), Position::First), None, "{config}");
        }
        for config in ["BindInterface eth9", "ProxyCommand nc -F %h %p\nProxyUseFdpass yes"] {
            assert_eq!(refused(&set(config), Position::Behind), None, "{config}");
        }
        assert!(refused(&set("RevokedHostKeys /etc/ssh/revoked"), Position::Behind).is_some());
    }

    #[test]
    fn who_asks_nobody_about_a_key_is_taken_at_that_word() {
        assert_eq!(asks_nobody(&set("StrictHostKeyChecking yes")), Some("StrictHostKeyChecking yes"));
        assert_eq!(asks_nobody(&set("BatchMode yes")), Some("BatchMode yes"));
        for asks in ["", "StrictHostKeyChecking no", "StrictHostKeyChecking accept-new", "StrictHostKeyChecking ask"] {
            assert_eq!(asks_nobody(&set(asks)), None, "{asks}");
        }
    }
}
