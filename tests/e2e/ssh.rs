//! Machines that a host reaches over SSH: real servers, agents and keys.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e::process::{Finished, Home};
use e2e::sshd::{Account, Ssh};
use e2e::tmux::Terminal;
use serde_json::{Value, json};

/// A person with an SSH configuration.
struct Person {
    home: Home,
    ssh: Ssh,
}

impl Person {
    fn prepare() -> Self {
        Self { home: Home::new(), ssh: Ssh::prepare() }
    }

    async fn check(&self, name: &str) -> Finished {
        self.home.json(&["ssh", "--ssh-config", &self.ssh.at("config"), "check", name]).await
    }

    /// What `check` says that the machine was let in by.
    async fn let_in_by(&self, name: &str) -> String {
        let checked = self.check(name).await.event("ssh_checked");
        assert_eq!(checked["user"], self.ssh.user(), "{checked}");
        assert_eq!(checked["fingerprint"], self.ssh.fingerprint("host"), "{checked}");
        checked["by"].as_str().unwrap().to_owned()
    }

    /// The `code` and the words of what went wrong.
    async fn refused(&self, name: &str) -> (String, String) {
        let refused = self.check(name).await;
        assert_eq!(refused.code, 1, "{refused:?}");
        let error = refused.event("error");
        assert!(error["fix"].is_string(), "no way on: {error}");
        (error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    fn at_the_terminal(&self, name: &str) -> Terminal {
        self.home.terminal(&["ssh", "--ssh-config", &self.ssh.at("config"), "check", name])
    }
}

#[tokio::test]
async fn a_machine_is_reached_through_two_others_with_every_kind_of_key() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    ssh.key("authority", "ed25519", "");
    ssh.key("signed", "ed25519", "");
    ssh.key("held", "ed25519", "");
    ssh.keygen(&["-q", "-s", "authority", "-I", "test", "-n", ssh.user(), "signed.pub"]);
    ssh.lets_in(&["one", "two", "three", "held"]);
    let trust = format!("TrustedUserCAKeys {}", ssh.at("authority.pub"));
    let (target, one, two) = (ssh.server(&trust).await, ssh.server("").await, ssh.server("").await);
    ssh.knows(&[&target, &one, &two]);
    let agent = ssh.agent("held").await;
    let key = |name: &str| format!("  IdentityFile {}\n", ssh.at(name));
    ssh.configure(&format!(
        "Host first\n  Port {}\n{}Host second\n  Port {}\n{}\
         Host ed25519\n{}Host ecdsa\n{}Host rsa\n{}Host certificate\n{}Host held\n  IdentityAgent {}\n\
         Host ed25519 ecdsa rsa certificate held\n  Port {}\n  ProxyJump first,second\n",
        one.port,
        key("one"),
        two.port,
        key("two"),
        key("one"),
        key("two"),
        key("three"),
        key("signed"),
        agent.socket.display(),
        target.port,
    ));
    for (name, by) in [
        ("first", "one"),
        ("ed25519", "one"),
        ("ecdsa", "two"),
        ("rsa", "three"),
        ("certificate", "signed"),
        ("held", "held"),
    ] {
        let said = person.let_in_by(name).await;
        assert!(said.ends_with(&ssh.fingerprint(by)), "{name}: {said}");
        assert_eq!(said.starts_with("a certificate with"), name == "certificate", "{said}");
        assert_eq!(said.starts_with("the agent's"), name == "held", "{said}");
    }
    let (code, message) = person.refused("nobody").await;
    assert!(code == "ssh_unknown_name" && message.contains("“nobody” is no machine"), "{code}: {message}");
}

#[tokio::test]
async fn a_command_of_the_configuration_carries_a_connection_and_ends_with_it() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let (target, jump) = (ssh.server("").await, ssh.server("").await);
    ssh.knows(&[&target, &jump]);
    let key = ssh.at("one");
    // OpenSSH itself as the command.
    ssh.configure(&format!(
        "Host carried\n  Port {}\n  ProxyCommand ssh -F {} -W %h:%p jump\n  IdentityFile {key}\n\
         Host jump\n  Port {}\n  IdentityFile {key}\nHost broken\n  ProxyCommand echo no such way >&2; exit 3\n",
        target.port,
        ssh.at("config"),
        jump.port
    ));
    assert!(person.let_in_by("carried").await.ends_with(&ssh.fingerprint("one")));
    let (code, message) = person.refused("broken").await;
    assert!(code == "ssh_unreachable" && message.contains("no such way"), "{code}: {message}");
}

#[tokio::test]
async fn a_machine_that_is_not_the_one_that_is_known_is_refused_whatever_the_configuration_says() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let server = ssh.server("").await;
    let key = format!("  Port {}\n  IdentityFile {}\n", server.port, ssh.at("one"));
    ssh.configure(&format!("Host devbox\n  StrictHostKeyChecking no\n  BatchMode no\n{key}"));

    // Nobody is asked where there is no terminal, and nothing is written down.
    let (code, message) = person.refused("devbox").await;
    assert!(code == "ssh_host_unknown" && message.contains(&ssh.fingerprint("host")), "{code}: {message}");
    assert_eq!(ssh.text("known_hosts"), "");

    ssh.key("other", "ed25519", "");
    ssh.write("known_hosts", &format!("\n[127.0.0.1]:{} {}\n", server.port, ssh.public("other")));
    let (code, message) = person.refused("devbox").await;
    assert!(code == "ssh_host_key" && message.contains("line 2 of"), "{code}: {message}");

    ssh.knows(&[&server]);
    ssh.write("known_hosts", &format!("{}@revoked * {}\n", ssh.text("known_hosts"), ssh.public("host")));
    let (code, message) = person.refused("devbox").await;
    assert!(code == "ssh_host_key" && message.contains("revoked"), "{code}: {message}");

    std::fs::remove_file(ssh.path("known_hosts")).unwrap();
    std::fs::create_dir(ssh.path("known_hosts")).unwrap();
    let (code, message) = person.refused("devbox").await;
    assert!(code == "ssh_host_key" && message.contains("can't read"), "{code}: {message}");
}

#[tokio::test]
async fn a_configuration_that_asks_for_what_is_not_done_is_refused_before_anything_is_dialled_or_run() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let (server, jump) = (ssh.server("").await, ssh.server("LogLevel DEBUG1").await);
    ssh.knows(&[&server, &jump]);
    ssh.write("revoked", &ssh.public("host"));
    ssh.write("command", "#!/bin/sh\ntouch \"$0.ran\"\n");
    std::fs::set_permissions(ssh.path("command"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let key = format!("  IdentityFile {}\n", ssh.at("one"));
    ssh.configure(&format!(
        "Host revoked\n  RevokedHostKeys {}\nHost command\n  KnownHostsCommand {command}\nHost interface\n  BindInterface lo\n\
         Host far\n  RemoteCommand {command}\nHost none\n  SessionType none\nHost macs\n  MACs hmac-sha1\n\
         Host jump\n  Port {}\n{key}Host *\n  Port {}\n{key}\
         Match originalhost revoked,command,far,none\n  ProxyJump jump\n",
        ssh.at("revoked"),
        jump.port,
        server.port,
        command = ssh.at("command"),
    ));
    for (name, option) in [
        ("revoked", "RevokedHostKeys"),
        ("command", "KnownHostsCommand"),
        ("interface", "BindInterface"),
        ("far", "RemoteCommand"),
        ("none", "SessionType"),
        ("macs", "MACs"),
    ] {
        let error = person.check(name).await.event("error");
        assert_eq!(error["code"], "ssh_unsupported", "{error}");
        assert!(error["message"].as_str().unwrap().contains(option), "{error}");
        assert!(error["fix"].as_str().unwrap().ends_with(&format!("ssh -G {name}")), "{error}");
    }
    let log = || ssh.text(&format!("sshd-{}.log", jump.port));
    assert!(!ssh.path("command.ran").exists() && !log().contains("Accepted"), "{}", log());
}

#[tokio::test]
async fn what_the_configuration_demands_of_keys_and_algorithms_holds() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let server = ssh.server(&format!("LogLevel DEBUG1\nHostKey {}", ssh.at("three"))).await;
    let known = |key: &str| format!("[127.0.0.1]:{} {}\n", server.port, ssh.public(key));
    ssh.write("known_hosts", &known("three"));
    let key = |name: &str| format!("  IdentityFile {}\n", ssh.at(name));
    ssh.configure(&format!(
        "Host small\n  RequiredRSASize 4096\n{one}Host other\n  HostKeyAlgorithms ssh-ed25519\n{one}\
         Host own\n  RequiredRSASize 4096\n  HostKeyAlgorithms ssh-ed25519\n{}Host kind\n  PubkeyAcceptedAlgorithms ssh-ed25519\n{}\
         Host typed\n  PreferredAuthentications password,keyboard-interactive\n{one}\
         Host good\n  PreferredAuthentications publickey\n  PubkeyAcceptedAlgorithms ssh-ed25519\n  Ciphers aes256-ctr\n  \
         MACs hmac-sha2-256\n  KexAlgorithms ecdh-sha2-nistp384\n{one}Host *\n  Port {}\n",
        key("three"),
        key("two"),
        server.port,
        one = key("one"),
    ));
    let (code, message) = person.refused("small").await;
    assert!(code == "ssh_host_key" && message.contains("RequiredRSASize"), "{code}: {message}");
    // Of the two keys that the machine has, it shows the one that is not known.
    let (code, message) = person.refused("other").await;
    assert!(code == "ssh_host_unknown" && message.contains(&ssh.fingerprint("host")), "{code}: {message}");

    ssh.write("known_hosts", &(known("three") + &known("host")));
    for (name, says) in [
        ("own", "RequiredRSASize"),
        ("kind", "PubkeyAcceptedAlgorithms does not have ecdsa-sha2-nistp256"),
        ("typed", "there was no key to offer"),
    ] {
        let (code, message) = person.refused(name).await;
        assert!(code == "ssh_auth" && message.contains(says), "{name}: {code}: {message}");
    }
    person.let_in_by("good").await;
    let log = ssh.text(&format!("sshd-{}.log", server.port));
    let shaken = log.rsplit("kex: algorithm:").next().unwrap();
    assert!(shaken.starts_with(" ecdh-sha2-nistp384"), "{log}");
    assert!(shaken.contains("cipher: aes256-ctr MAC: hmac-sha2-256 "), "{log}");
}

#[tokio::test]
async fn a_machine_is_known_by_the_certificate_of_an_authority() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    ssh.key("authority", "ed25519", "");
    ssh.keygen(&["-q", "-s", "authority", "-I", "test", "-h", "-n", "127.0.0.1", "host.pub"]);
    let server = ssh.server(&format!("HostCertificate {}", ssh.at("host-cert.pub"))).await;
    ssh.configure(&format!("Host devbox\n  Port {}\n  IdentityFile {}\n", server.port, ssh.at("one")));
    ssh.write("known_hosts", &format!("@cert-authority [127.0.0.*]:{} {}\n", server.port, ssh.public("authority")));
    person.let_in_by("devbox").await;

    let choosy = format!("CASignatureAlgorithms ecdsa-sha2-nistp256\n{}", ssh.text("config"));
    ssh.write("choosy", &choosy);
    let checked = person.home.json(&["ssh", "--ssh-config", &ssh.at("choosy"), "check", "devbox"]).await.event("error");
    assert!(checked["message"].as_str().unwrap().contains("not signed as it should be"), "{checked}");

    ssh.key("stranger", "ed25519", "");
    ssh.write("known_hosts", &format!("@cert-authority * {}\n", ssh.public("stranger")));
    let (code, message) = person.refused("devbox").await;
    assert!(code == "ssh_host_key" && message.contains("no authority"), "{code}: {message}");
}

#[tokio::test]
async fn at_the_terminal_a_new_machine_is_accepted_and_a_locked_key_opened() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    ssh.key("locked", "ed25519", "open sesame");
    ssh.lets_in(&["locked"]);
    let account = Account::prepare(person.home.folder("far"), "bash", "");
    // It offers questions, and has none.
    let asks = "KbdInteractiveAuthentication yes";
    let server = ssh.server(&format!("{asks}\n{}", account.sessions())).await;
    ssh.configure(&format!("Host devbox\n  Port {}\n  IdentityFile {}\n", server.port, ssh.at("locked")));

    let no = person.at_the_terminal("devbox");
    no.shows(&ssh.fingerprint("host")).await;
    no.type_text("y");
    no.press(&["Enter"]);
    assert_eq!(no.exit().await, 1);
    assert_eq!(ssh.text("known_hosts"), "");

    let yes = person.at_the_terminal("devbox");
    yes.shows("Type yes").await;
    yes.type_text("yes");
    yes.press(&["Enter"]);
    yes.shows("Passphrase of").await;
    yes.type_text("wrong");
    yes.press(&["Enter"]);
    yes.until("a second question", |screen| screen.matches("Passphrase of").count() == 2).await;
    yes.type_text("open sesame");
    yes.press(&["Enter"]);
    yes.shows("lets").await;
    assert!(!yes.everything().contains("sesame"), "{}", yes.everything());
    assert_eq!(yes.exit().await, 0);
    assert_eq!(ssh.text("known_hosts"), format!("[127.0.0.1]:{} {}\n", server.port, ssh.public("host")));

    // Without a terminal nobody opens the key, and it is said what to do.
    let locked = person.check("devbox").await.event("error");
    assert_eq!(locked["code"], "ssh_auth", "{locked}");
    let fix = locked["fix"].as_str().unwrap();
    assert!(fix.ends_with(&format!("ssh-add {}", ssh.at("locked"))), "{locked}");
    let message = locked["message"].as_str().unwrap();
    assert!(message.contains("there was no key to offer; “") && !message.contains("typed"), "{locked}");
}

#[tokio::test]
async fn a_key_is_written_down_hashed_where_the_configuration_says_so() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let server = ssh.server("").await;
    let key = format!("  Port {}\n  IdentityFile {}\n", server.port, ssh.at("one"));
    ssh.configure(&format!("Host devbox\n  HashKnownHosts yes\n  HostKeyAlias the-box\n{key}"));
    ssh.write("known_hosts", "# mine, without an end of line");
    let terminal = person.at_the_terminal("devbox");
    terminal.shows("Type yes").await;
    terminal.type_text("yes");
    terminal.press(&["Enter"]);
    terminal.shows("lets").await;
    terminal.exit().await;

    let written = ssh.text("known_hosts");
    assert!(written.starts_with("# mine, without an end of line\n|1|"), "{written}");
    assert!(written.ends_with(&format!("= {}\n", ssh.public("host"))) && !written.contains("the-box"), "{written}");
    let found = ssh.keygen(&["-F", "the-box", "-f", "known_hosts"]);
    assert!(found.contains(&ssh.public("host")), "{found}");
    // Both find it again: OpenSSH, which may ask nobody, and Reachback.
    let mut openssh = tokio::process::Command::new("ssh");
    openssh.args(["-F", &ssh.at("config"), "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "devbox", "true"]);
    let done = openssh.output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    person.let_in_by("devbox").await;
}

#[tokio::test]
async fn who_has_nobody_asked_about_a_key_is_asked_at_no_terminal() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let server = ssh.server("").await;
    for option in ["StrictHostKeyChecking yes", "BatchMode yes"] {
        let key = format!("  Port {}\n  IdentityFile {}\n", server.port, ssh.at("one"));
        ssh.configure(&format!("Host devbox\n  {option}\n{key}"));
        let terminal = person.at_the_terminal("devbox");
        terminal.shows(&format!("{option} has nobody asked")).await;
        assert_eq!(terminal.exit().await, 1);
        assert_eq!(ssh.text("known_hosts"), "");
        let (code, message) = person.refused("devbox").await;
        assert!(code == "ssh_host_unknown" && message.contains(option), "{code}: {message}");
        // A key that is known is as good as ever.
        ssh.knows(&[&server]);
        person.let_in_by("devbox").await;
        ssh.write("known_hosts", "");
    }
}

#[tokio::test]
async fn who_has_nobody_asked_is_asked_for_no_passphrase() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    ssh.key("locked", "ed25519", "open sesame");
    ssh.lets_in(&["locked"]);
    let server = ssh.server("").await;
    ssh.knows(&[&server]);
    let locked = ssh.at("locked");
    let way = format!("  Port {}\n  IdentityFile {locked}\n", server.port);
    ssh.configure(&format!("Host devbox\n  BatchMode yes\n{way}"));
    let terminal = person.at_the_terminal("devbox");
    terminal.shows("BatchMode yes has nobody asked").await;
    assert_eq!(terminal.exit().await, 1);
    assert!(!terminal.everything().contains("Passphrase of"), "{}", terminal.everything());
    let error = person.check("devbox").await.event("error");
    let fix = format!(
        "add the key to the SSH agent: ssh-add {locked}; or set BatchMode no for it in the SSH configuration, and log in \
         at this host's terminal: reachback ssh login devbox"
    );
    assert_eq!((&error["code"], &error["fix"]), (&json!("ssh_auth"), &json!(fix)), "{error}");
    // So does OpenSSH.
    let config = ssh.at("config");
    let terminal = Terminal::start(Path::new("ssh"), &["-F", &config, "devbox", "true"], &[]);
    assert_eq!(terminal.exit().await, 255, "{}", terminal.everything());
    assert!(!terminal.everything().contains("passphrase"), "{}", terminal.everything());

    ssh.configure(&format!("Host devbox\n  BatchMode no\n{way}"));
    let terminal = person.at_the_terminal("devbox");
    terminal.shows("Passphrase of").await;
    // A key that opens by itself is offered as ever.
    ssh.lets_in(&["one"]);
    ssh.configure(&format!("Host devbox\n  BatchMode yes\n{way}  IdentityFile {}\n", ssh.at("one")));
    assert!(person.let_in_by("devbox").await.ends_with(&ssh.fingerprint("one")));
}

#[tokio::test]
async fn who_is_not_let_in_hears_what_was_offered_and_what_was_not() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    ssh.key("stranger", "ed25519", "");
    ssh.key("open", "ed25519", "");
    std::fs::set_permissions(ssh.path("open"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = ssh.server("").await;
    ssh.knows(&[&server]);
    let (stranger, open) = (ssh.at("stranger"), ssh.at("open"));
    let port = server.port;
    ssh.configure(&format!("Host devbox\n  Port {port}\n  IdentityFile {stranger}\n  IdentityFile {open}\n"));
    let (code, message) = person.refused("devbox").await;
    assert_eq!(code, "ssh_auth");
    assert!(message.contains(&ssh.fingerprint("stranger")), "{message}");
    assert!(message.contains(&open) && !message.contains(&ssh.fingerprint("open")), "{message}");
}

#[tokio::test]
async fn a_machine_that_is_off_silent_or_no_ssh_server_is_told_from_the_others() {
    let person = Person::prepare();
    let ssh = &person.ssh;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let talks = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let port = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap().port();
    ssh.configure(&format!(
        "Host off\n  Port {free}\nHost silent\n  Port {}\nHost talks\n  Port {}\nHost *\n  ConnectTimeout 1\n",
        port(&silent),
        port(&talks)
    ));
    let talking = tokio::spawn(async move {
        loop {
            let (mut stream, _) = talks.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &b"HTTP/1.1 400 Bad Request\r\n".repeat(100_000))
                .await;
        }
    });
    let (code, message) = person.refused("off").await;
    assert!(code == "ssh_unreachable" && message.contains("refused"), "{code}: {message}");
    let (code, message) = person.refused("silent").await;
    assert!(code == "ssh_unreachable" && message.contains("within 1 s"), "{code}: {message}");
    let (code, message) = person.refused("talks").await;
    assert!(["ssh_unreachable", "ssh_protocol"].contains(&code.as_str()), "{code}: {message}");
    talking.abort();
}

#[tokio::test]
async fn the_list_says_what_each_name_means() {
    let person = Person::prepare();
    let unread = person.ssh.path("lab");
    std::fs::create_dir(&unread).unwrap();
    let include = format!("Include {}\n", unread.display());
    person.ssh.configure(&format!("{include}Host devbox\n  Port 2222\n  ProxyJump first,second\nHost *.lab\n"));
    let listed = person.home.json(&["ssh", "list", "--ssh-config", &person.ssh.at("config")]).await.ok();
    let devbox = listed.event("ssh_host");
    assert_eq!(devbox["host_name"], "127.0.0.1", "{devbox}");
    assert_eq!((&devbox["port"], &devbox["jumps"]), (&json!(2222), &json!(["first", "second"])), "{devbox}");
    assert_eq!(devbox["error"], Value::Null);
    let notice = listed.event("notice");
    assert_eq!(notice["code"], "ssh_config_unread", "{notice}");
    let message = notice["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("“{}”: not a file", unread.display())), "{notice}");
    let said = person.home.run(&["ssh", "list", "--ssh-config", &person.ssh.at("config")]).await.ok();
    assert!(said.err.contains("Not read: “") && said.err.contains("not a file"), "{said:?}");
}
