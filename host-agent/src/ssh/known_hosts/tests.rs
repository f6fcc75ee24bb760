//! The real `ssh-keygen` makes the keys, the certificates and the hashes, and finds the lines that this file is compared with.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// A folder with keys that `ssh-keygen` made.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn keygen(&self, args: &[&str]) -> String {
        let done = Command::new("ssh-keygen").args(args).current_dir(self.dir.path()).stdin(Stdio::null()).output();
        String::from_utf8(done.expect("ssh-keygen runs").stdout).unwrap()
    }

    /// A new key's public half, `kind base64`.
    fn make(&self, name: &str, kind: &str) -> String {
        self.keygen(&["-q", "-t", kind, "-N", "", "-C", "", "-f", name]);
        self.public(name)
    }

    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    /// A certificate for `key`, signed by `authority`.
    fn certificate(&self, authority: &str, key: &str, options: &[&str]) -> Certificate {
        let public = format!("{key}.pub");
        self.keygen(&[&["-q", "-s", authority, "-I", "test"], options, &[&public]].concat());
        let text = std::fs::read_to_string(self.path(&format!("{key}-cert.pub"))).unwrap();
        Certificate::from_openssh(text.trim()).unwrap()
    }
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.parse(&Arc::from(Path::new("known_hosts")), text);
    known
}

fn public(key: &str) -> PublicKey {
    PublicKey::from_openssh(key).unwrap()
}

fn at(line: usize) -> Place {
    Place { file: Arc::from(Path::new("known_hosts")), line }
}

#[test]
fn the_same_lines_are_found_as_by_openssh() {
    let keys = Keys::new();
    let key = keys.make("key", "ed25519");
    let hosts = [
        "devbox",
        "DevBox2,192.0.2.7",
        "*.lab",
        "*.lab,!old.lab",
        "[devbox]:2222",
        "[*.lab]:2222",
        "?ox,!box",
        "!devbox",
        "*",
        "[fe80::1]:22",
        "fe80::1",
        "[devbox]:*",
        "devbox*,!devbox2",
    ];
    let mut text: String = hosts.iter().map(|hosts| format!("{hosts} {key} comment # more\n")).collect();
    text += &format!("# devbox {key}\n\n  \t devbox \t {key}\n@cert-authority *.lab {key}\n@revoked devbox {key}\n");
    std::fs::write(keys.path("hashed"), format!("devbox {key}\n[devbox]:2222 {key}\nold.lab {key}\n")).unwrap();
    keys.keygen(&["-H", "-f", "hashed"]);
    text += &std::fs::read_to_string(keys.path("hashed")).unwrap();
    assert!(text.contains("|1|"), "{text}");
    std::fs::write(keys.path("all"), &text).unwrap();

    let ours = known(&text);
    let mut found = 0;
    for name in ["devbox", "devbox2", "192.0.2.7", "new.lab", "old.lab", "box", "fox", "fe80::1", "other"] {
        for port in [22, 2222] {
            let name = HostName::new(name, port).spelled();
            let said = keys.keygen(&["-F", &name, "-f", "all"]);
            let theirs: Vec<usize> = said
                .lines()
                .filter_map(|line| {
                    line.strip_prefix("# Host ")?.split_once(" found: line ")?.1.split(' ').next()?.parse().ok()
                })
                .collect();
            let lines: Vec<usize> = ours.about(&name).map(|line| line.place.line).collect();
            assert_eq!(lines, theirs, "{name}\n{text}");
            found += lines.len();
        }
    }
    assert!(found > 30, "{found}");
}

#[test]
fn a_key_is_known_new_changed_or_revoked() {
    let keys = Keys::new();
    let (one, two, rsa) = (keys.make("one", "ed25519"), keys.make("two", "ed25519"), keys.make("rsa", "rsa"));
    let known = known(&format!(
        "devbox {one}\nother {rsa}\n[devbox]:2222 {two}\n@revoked gone {one}\n@revoked * {rsa}\ngone {one}\n"
    ));
    let judge = |name: &str, port, key: &str| known.judge(&HostName::new(name, port), &public(key));
    assert_eq!(judge("devbox", 22, &one), Verdict::Known);
    assert_eq!(judge("DEVBOX", 22, &one), Verdict::Known);
    assert_eq!(judge("devbox", 22, &two), Verdict::Changed { known: at(1) });
    assert_eq!(judge("devbox", 2222, &two), Verdict::Known);
    // The key of the same machine at its usual port is no excuse for another one than is known at this port.
    assert_eq!(judge("devbox", 2222, &one), Verdict::Changed { known: at(3) });
    assert_eq!(judge("devbox", 2022, &one), Verdict::Known);
    assert_eq!(judge("devbox", 2022, &two), Verdict::Unknown { other: None });
    assert_eq!(judge("other", 22, &one), Verdict::Unknown { other: Some(at(2)) });
    assert_eq!(judge("other", 22, &rsa), Verdict::Revoked { by: at(5) });
    assert_eq!(judge("gone", 22, &one), Verdict::Revoked { by: at(4) });
    assert_eq!(judge("nobody", 22, &two), Verdict::Unknown { other: None });
    assert_eq!(known.judge(&HostName::alias("devbox"), &public(&one)), Verdict::Known);
    assert_eq!(known.kinds(&HostName::new("devbox", 22)), [Algorithm::Ed25519]);
    assert!(!known.has_authority(&HostName::new("devbox", 22)));
}

#[test]
fn a_certificate_counts_for_its_machines_in_its_time_by_an_authority_that_is_known_for_them() {
    let keys = Keys::new();
    let (authority, host) = (keys.make("ca", "ed25519"), keys.make("host", "ecdsa"));
    keys.make("stranger", "ed25519");
    let now = SystemTime::now();
    let text = format!("@cert-authority *.lab,!old.lab {authority}\n");
    let lab = HostName::new("new.lab", 2222);
    let with =
        |text: &str, host: &HostName, certificate: &Certificate| known(text).judge_certificate(host, certificate, now);
    let good = keys.certificate("ca", "host", &["-h", "-n", "new.lab,old.lab,*.wide.lab", "-V", "+1d"]);
    assert_eq!(with(&text, &lab, &good), Ok(()));
    assert_eq!(with(&text, &HostName::new("a.wide.lab", 22), &good), Ok(()));
    assert!(known(&text).has_authority(&lab) && known(&text).kinds(&lab).is_empty());

    let elsewhere = with(&text, &HostName::new("old.lab", 22), &good);
    assert!(matches!(elsewhere, Err(CertificateError::Authority { .. })), "{elsewhere:?}");
    assert!(matches!(with("", &lab, &good), Err(CertificateError::Authority { .. })));
    // That a key is the machine's own says nothing of what it signs.
    assert!(matches!(with(&format!("* {authority}\n"), &lab, &good), Err(CertificateError::Authority { .. })));
    assert!(matches!(with(&text, &HostName::new("third.lab", 22), &good), Err(CertificateError::Principal { .. })));
    for revoked in [&authority, &host] {
        let text = format!("{text}@revoked * {revoked}\n");
        assert_eq!(with(&text, &lab, &good), Err(CertificateError::Revoked { by: at(2) }));
    }
    for later in [Duration::from_secs(2 * 86_400), Duration::from_secs(u64::from(u32::MAX))] {
        assert_eq!(known(&text).judge_certificate(&lab, &good, now + later), Err(CertificateError::Time));
    }
    let early = now - Duration::from_secs(86_400);
    assert_eq!(known(&text).judge_certificate(&lab, &good, early), Err(CertificateError::Time));

    let user = keys.certificate("ca", "host", &["-n", "new.lab"]);
    assert_eq!(with(&text, &lab, &user), Err(CertificateError::Kind));
    let nameless = keys.certificate("ca", "host", &["-h"]);
    assert!(matches!(with(&text, &lab, &nameless), Err(CertificateError::Principal { .. })));
    let odd = keys.certificate("ca", "host", &["-h", "-n", "new.lab", "-O", "critical:odd@example.com=1"]);
    assert_eq!(with(&text, &lab, &odd), Err(CertificateError::Option));
    let stranger = keys.certificate("stranger", "host", &["-h", "-n", "new.lab"]);
    assert!(matches!(with(&text, &lab, &stranger), Err(CertificateError::Authority { .. })));
}

#[test]
fn a_certificate_that_was_altered_does_not_count() {
    let keys = Keys::new();
    let authority = keys.make("ca", "ed25519");
    keys.make("host", "ed25519");
    let good = keys.certificate("ca", "host", &["-h", "-n", "new.lab"]).to_bytes().unwrap();
    let place = good.windows(7).position(|bytes| bytes == b"new.lab").unwrap();
    let mut bad = good.clone();
    bad[place..place + 7].copy_from_slice(b"old.lab");
    let known = known(&format!("@cert-authority * {authority}\n"));
    let judge = |bytes: &[u8], name| {
        let certificate = Certificate::from_bytes(bytes).unwrap();
        known.judge_certificate(&HostName::new(name, 22), &certificate, SystemTime::now())
    };
    assert_eq!(judge(&good, "new.lab"), Ok(()));
    assert_eq!(judge(&bad, "old.lab"), Err(CertificateError::Signature));
}

#[test]
fn an_authority_that_signs_with_sha_1_is_not_taken() {
    let keys = Keys::new();
    let authority = keys.make("ca", "rsa");
    keys.make("host", "ed25519");
    let known = known(&format!("@cert-authority * {authority}\n"));
    for (hash, wanted) in [("rsa-sha2-512", Ok(())), ("ssh-rsa", Err(CertificateError::Signature))] {
        let certificate = keys.certificate("ca", "host", &["-h", "-n", "new.lab", "-t", hash]);
        assert_eq!(known.judge_certificate(&HostName::new("new.lab", 22), &certificate, SystemTime::now()), wanted);
    }
}

#[test]
fn a_file_that_is_not_there_says_nothing_and_one_that_can_not_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(KnownHosts::read(&[dir.path().join("none")]).unwrap().lines.is_empty());
    let error = KnownHosts::read(&[dir.path().to_owned()]).unwrap_err();
    assert_eq!(error.path, dir.path());
}

#[test]
fn lines_that_say_nothing_are_passed_over() {
    let keys = Keys::new();
    let key = keys.make("one", "ed25519");
    let odd = [
        "devbox",
        "@cert-authority",
        "@later devbox ssh-ed25519 AAAA",
        "devbox ssh-ed25519 AAAA",
        "|1|x devbox ssh-ed25519 A",
        "|2|a|b ssh-ed25519 A",
        "devbox 1024 35 1234",
        "\u{0}",
        "devbox ssh-ed25519 \u{ff}",
    ];
    let text = format!("{}\ndevbox {key}\n", odd.join("\n"));
    let known = known(&text);
    assert_eq!(known.lines.len(), 1);
    assert_eq!(known.judge(&HostName::new("devbox", 22), &public(&key)), Verdict::Known);
}

#[test]
fn a_key_is_revoked_also_where_a_tab_follows_the_word() {
    // OpenSSH 9.2 passes such a line over.
    let keys = Keys::new();
    let key = keys.make("one", "ed25519");
    let known = known(&format!("@revoked\tdevbox {key}\ndevbox {key}\n"));
    assert_eq!(known.judge(&HostName::new("devbox", 22), &public(&key)), Verdict::Revoked { by: at(1) });
}
