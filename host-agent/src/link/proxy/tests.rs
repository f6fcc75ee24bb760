use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn proxies(environment: &[(&str, &str)]) -> Proxies {
    Proxies::of(|name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
}

fn on_the_way(environment: &[(&str, &str)], host: &str, port: u16) -> Option<Proxy> {
    proxies(environment).on_the_way_to(&Host::parse(host).unwrap(), port)
}

/// Where the way to this host leads, and the password there.
fn way(environment: &[(&str, &str)], host: &str) -> Option<(String, Option<String>)> {
    let proxy = on_the_way(environment, host, 443)?;
    let password = proxy.found().unwrap().basic_auth().map(|password| password.to_str().unwrap().to_owned());
    Some((format!("{} to {}", proxy.name(), proxy.to), password))
}

#[test]
fn the_environment_names_the_proxy_in_capitals_or_not() {
    let through = |way: &str| Some((way.to_owned(), None));
    assert_eq!(way(&[], "chatgpt.com"), None);
    assert_eq!(way(&[("HTTP_PROXY", "http://p:1")], "chatgpt.com"), None, "it is for what goes without TLS");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        assert_eq!(way(&[(name, "http://p:1")], "chatgpt.com"), through("p:1 to chatgpt.com:443"), "{name}");
        assert_eq!(way(&[(name, "p")], "chatgpt.com"), through("p:80 to chatgpt.com:443"), "{name}");
        assert_eq!(way(&[(name, "https://p")], "chatgpt.com"), through("p:443 to chatgpt.com:443"), "{name}");
        assert_eq!(way(&[(name, "")], "chatgpt.com"), None, "{name} is empty");
    }
    let both = [("https_proxy", "small:1"), ("HTTPS_PROXY", "capitals:2"), ("ALL_PROXY", "all:3")];
    assert_eq!(way(&both, "[2001:db8::1]"), through("capitals:2 to [2001:db8::1]:443"));
    assert_eq!(
        way(&[("HTTPS_PROXY", ""), ("https_proxy", "small:1")], "chatgpt.com"),
        through("small:1 to chatgpt.com:443")
    );
    assert_eq!(way(&[("HTTPS_PROXY", "http://[::1]:3")], "10.1.2.3"), through("[::1]:3 to 10.1.2.3:443"));
    let (_, password) = way(&[("HTTPS_PROXY", "http://Aladdin:open%20%40sesame@p")], "chatgpt.com").unwrap();
    assert_eq!(password.unwrap(), "Basic QWxhZGRpbjpvcGVuIEBzZXNhbWU=");
}

#[test]
fn no_proxy_names_whom_it_is_not_for() {
    let is_direct = |except: &str, host: &str| {
        let direct = |name| on_the_way(&[("HTTPS_PROXY", "p:1"), (name, except)], host, 7420).is_none();
        assert_eq!(direct("NO_PROXY"), direct("no_proxy"));
        direct("NO_PROXY")
    };
    let relay = "relay.corp.example";
    for except in [
        "*",
        relay,
        "RELAY.Corp.Example",
        ".corp.example",
        "corp.example",
        "*.corp.example",
        "x, corp.example",
        "x corp.example",
        "relay.corp.example:7420",
        ".corp.example:7420",
        "corp.example:1,corp.example:7420",
    ] {
        assert!(is_direct(except, relay), "{except}");
    }
    for except in ["", "x", "orp.example", "y.relay.corp.example", "relay.corp.example:1", "example.org", ":7420", ",,"]
    {
        assert!(!is_direct(except, relay), "{except}");
    }
    for (except, address, direct) in [
        ("10.0.0.0/8", "10.1.2.3", true),
        ("10.0.0.0/8", "11.1.2.3", false),
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3:7420", "10.1.2.3", true),
        ("10.1.2.3:1", "10.1.2.3", false),
        ("2001:db8::/32", "[2001:db8::1]", true),
        ("2001:db8::1", "[2001:db8::1]", true),
        ("[2001:db8::1]", "[2001:db8::1]", true),
        ("[2001:db8::1]:7420", "[2001:db8::1]", true),
        ("[2001:db8::1]:1", "[2001:db8::1]", false),
        ("2001:db8::2", "[2001:db8::1]", false),
    ] {
        assert_eq!(is_direct(except, address), direct, "{except} {address}");
    }
}

#[test]
fn a_proxy_that_can_not_be_used_is_not_gone_around() {
    let refused = |name, value: &str| {
        let proxy = on_the_way(&[(name, value)], "chatgpt.com", 443).expect("a way");
        (proxy.address().expect_err("no address").to_string(), format!("{proxy:?}"))
    };
    for kind in ["socks4", "socks5", "socks5h"] {
        let (why, _) = refused("ALL_PROXY", &format!("{kind}://me:secret@p:1"));
        assert!(why.starts_with(&format!("ALL_PROXY names a {kind}:// proxy, and only http:// and https://")), "{why}");
    }
    for rubbish in [
        "ftp://me:secret@p:1",
        "http://me:secret word@p",
        "http://me:1/secret@p",
        "http://me:1#secret@p",
        "me:1?secret",
        "p:secret",
        "http://me:secret@q@p",
        "\u{7f}secret",
    ] {
        let (why, shown) = refused("https_proxy", rubbish);
        assert!(why.starts_with("what https_proxy says is no proxy's address: write http://HOST:PORT"), "{why}");
        assert!(!why.contains("secret") && !shown.contains("secret"), "{why} {shown}");
    }
}

#[test]
fn passwords_of_proxies_are_not_shown() {
    let environment = [("HTTPS_PROXY", "http://me:secret@p:1")];
    let proxy = on_the_way(&environment, "chatgpt.com", 443).unwrap();
    let shown = format!("{:?} {proxy:?} {}", proxies(&environment), proxy.name());
    assert!(!shown.contains("secret") && !shown.contains("me"), "{shown}");
    assert!(proxy.found().unwrap().basic_auth().unwrap().is_sensitive());
}

/// A proxy that answers each request with this, and what it was asked last.
async fn ask(password: &str, answer: &[u8]) -> (Result<Box<dyn ByteStream>, ProxyError>, String, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let named = format!("http://{password}{}", listener.local_addr().unwrap());
    let proxy = on_the_way(&[("HTTPS_PROXY", &named)], "relay.example", 7420).unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        // It may have hung up, where there is too much.
        let _ = stream.write_all(answer).await;
        if answer.is_empty() || answer.ends_with(b"broken") {
            let _ = stream.shutdown().await;
        }
        (String::from_utf8(head).unwrap(), stream)
    };
    let authorities = Authorities::default();
    let opening = proxy.open(&authorities, Instant::now() + DEADLINE);
    let (opened, (head, stream)) = tokio::join!(opening, answering);
    (opened, head.to_ascii_lowercase(), stream)
}

#[tokio::test]
async fn a_tunnel_carries_every_byte_from_the_first_one_on() {
    // The first bytes of who is behind it come with the answer.
    let (opened, head, mut far) = ask("me:pw@", b"HTTP/1.1 200 Connection established\r\nvia: 1\r\n\r\nhello").await;
    let mut near = opened.unwrap();
    let mut first = [0; 5];
    timeout(DEADLINE, near.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"hello");
    near.write_all(b"there").await.unwrap();
    near.flush().await.unwrap();
    timeout(DEADLINE, far.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"there");
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["connect relay.example:7420 http/1.1", "host: relay.example:7420", "proxy-authorization: basic bwu6chc="],
        "all that it is told"
    );
    drop(near);
    let mut rest = Vec::new();
    timeout(DEADLINE, far.read_to_end(&mut rest)).await.expect("its end is closed").unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn every_refusal_of_a_proxy_says_what_to_do_and_nothing_of_what_it_says() {
    for (status, password, expected) in [
        (407, "", "it wants a name and a password: write them into HTTPS_PROXY"),
        (407, "me:secret@", "it does not take the name and the password in HTTPS_PROXY: correct them"),
        (401, "me:secret@", "it does not take the name and the password in HTTPS_PROXY: correct them"),
        (403, "me:secret@", "it does not allow connections there (403): its administrator can"),
        (405, "", "it does not allow connections there (405)"),
        (404, "", "it can't reach the relay itself (404): check the relay's address"),
        (500, "", "it can't reach the relay itself (500)"),
        (502, "me:secret@", "it can't reach the relay itself (502): check the relay's address"),
        (503, "", "it can't reach the relay itself (503)"),
        (504, "", "it can't reach the relay itself (504)"),
        (301, "", "it answers 301, and not with a tunnel"),
        (400, "", "it answers 400, and not with a tunnel"),
        (799, "", "it answers 799, and not with a tunnel"),
    ] {
        let answer = format!("HTTP/1.1 {status} evil\r\nx-evil: evil\r\ncontent-length: 4\r\n\r\nevil");
        let why = ask(password, answer.as_bytes()).await.0.err().expect("no tunnel").to_string();
        assert!(why.starts_with(expected) && !why.contains("evil") && !why.contains("secret"), "{status}: {why}");
    }
    let endless = [b"HTTP/1.1 200 ok\r\nx: ".to_vec(), vec![b'x'; 4 * MAX_HEAD]].concat();
    for rubbish in [&b""[..], b"SSH-2.0-evil\r\n", b"HTTP/1.1 200 broken", &endless] {
        let why = ask("", rubbish).await.0.err().expect("no tunnel").to_string();
        assert_eq!(why, "it does not answer as an HTTP proxy does: check its port in HTTPS_PROXY");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_with_the_variable_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let named = listener.local_addr().unwrap().to_string();
    drop(listener);
    let proxy = on_the_way(&[("all_proxy", &named)], "relay.example", 443).unwrap();
    let opened = proxy.open(&Authorities::default(), Instant::now() + DEADLINE).await;
    let why = opened.err().expect("nobody listens").to_string();
    assert!(why.to_lowercase().starts_with("connection refused"), "{why}");
    assert!(why.ends_with("; correct all_proxy, or name the relay in NO_PROXY"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_the_connection_and_is_silent_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let named = listener.local_addr().unwrap().to_string();
    for (scheme, why) in [
        ("http", "it takes the connection, and does not say in time whether it leads there"),
        (
            "https",
            "there is no TLS with it (“timed out”): check its name and port in HTTPS_PROXY, or write http:// there",
        ),
    ] {
        let named = format!("{scheme}://{named}");
        let proxy = on_the_way(&[("HTTPS_PROXY", &named)], "relay.example", 443).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let opened = proxy.open(&Authorities::default(), deadline).await;
        assert_eq!(opened.err().expect("no tunnel").to_string(), why);
        assert!(Instant::now() < deadline, "{scheme}: it has a word of its own before all of it is over");
    }
}
