//! What the relay handles, and what anyone logs, tells nothing of what is said.

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use e2e::rpc::Client;
use e2e::stage::{DEVICE_NAME, HOST_NAME, Stage, TestDevice, client};
use reachback_host::connect::join::Invitation;
use reachback_proto::scope::Scope;
use serde_json::json;

/// Something that must not be seen, and what to call it.
type Secret = (&'static str, Vec<u8>);

/// `secret` as it is, and as it looks in the usual encodings, whatever stands before it.
fn disguises(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut found = vec![secret.to_vec(), HEXLOWER.encode(secret).into(), HEXUPPER.encode(secret).into()];
    for (encoding, group, bits) in [(BASE64, 3, 6), (BASE64URL_NOPAD, 3, 6), (BASE32_NOPAD, 5, 5)] {
        for offset in 0..group {
            let encoded = encoding.encode(&[&vec![0; offset], secret].concat());
            // Characters at either end depend on the neighbours.
            let (first, last) = ((offset * 8usize).div_ceil(bits), (offset + secret.len()) * 8 / bits);
            let core = &encoded[first..last];
            found.push(core.into());
            found.push(core.to_ascii_lowercase().into());
        }
    }
    found
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn assert_blind(place: &str, seen: &[u8], secrets: &[Secret]) {
    for (name, secret) in secrets {
        assert!(secret.len() >= 6, "{name} is too short to look for");
        let found = disguises(secret).into_iter().find(|disguise| contains(seen, disguise));
        assert!(
            found.is_none(),
            "{place} shows {name}, as {:?}",
            found.map(|f| String::from_utf8_lossy(&f).into_owned())
        );
    }
}

#[test]
fn disguises_are_found_wherever_they_stand() {
    let secret = b"open sesame";
    for before in ["", "a", "ab", "abc", "abcd"] {
        let text = format!("{before}{}!", String::from_utf8_lossy(secret));
        for encoding in [BASE64, BASE64URL_NOPAD, BASE32_NOPAD, HEXLOWER, HEXUPPER] {
            let seen = encoding.encode(text.as_bytes()).into_bytes();
            assert!(disguises(secret).iter().any(|disguise| contains(&seen, disguise)), "{before} {seen:?}");
        }
    }
}

#[tokio::test]
async fn nothing_said_shows_at_the_relay_or_in_a_log() {
    let stage = Stage::start().await;
    let (url, _) = stage.offer(Scope::Approve).await;
    let scanned = TestDevice::join(&Invitation::Url(url.clone())).await;
    let (_, code) = stage.offer(Scope::Approve).await;
    let typed = TestDevice::join(&code).await;
    let Invitation::Code { code, .. } = code else { panic!("wanted the typed code") };

    let mut thread = String::new();
    for device in [&scanned, &typed] {
        let remote = device.connect().await;
        Client::raw(remote.api().await.unwrap()).request("host/read", json!({})).await.unwrap();
        let mut far = client(&remote).await;
        thread = far.thread(&stage.codex).await;
        far.prompt(&thread, "@esc echo whispered words").await;
        let asked = far.event("item/commandExecution/requestApproval").await;
        far.decide(&asked, "accept").await;
        let done = far.event("turn/completed").await;
        assert_eq!(done["params"]["turn"]["status"], "completed", "{done}");
        stage.device_side.reset();
        far.echo().await;
    }

    let url_text = url.expose();
    let mut secrets: Vec<Secret> = vec![
        ("the prompt", b"whispered words".into()),
        ("the answer", b"The tool said".into()),
        ("the device's name", DEVICE_NAME.into()),
        ("the host's name", HOST_NAME.into()),
        ("the QR code's secret", url.secret.expose().to_vec()),
        ("the QR code's psk0", url.secret.psk0().expose().to_vec()),
        ("the QR code's text", url_text.split_once('#').unwrap().1.into()),
        ("the typed code", code.expose().as_bytes().into()),
        ("the typed code without dashes", code.expose().replace('-', "").into()),
        ("a thread's id", thread.into()),
        ("a folder", stage.codex.home.project().to_str().unwrap().into()),
    ];
    for device in [&scanned, &typed] {
        secrets.push(("a psk", device.host.psk.expose().to_vec()));
        secrets.push(("a device's static key", device.host.static_key.public().0.to_vec()));
        secrets.push(("the host's static key", device.host.host_static.0.to_vec()));
    }
    // Agent and devices may name Codex's methods in their logs, and the machine's folders.
    assert_blind("the log of agent and devices", &stage.log.kept(), &secrets[..9]);
    for method in ["turn/start", "requestApproval", "agentMessage", "threadId", "host/read", "jsonrpc"] {
        secrets.push(("JSON-RPC", method.into()));
    }
    assert_blind("the relay's log", &stage.relay.log(), &secrets);

    let mut seen = Vec::new();
    for kept in stage.recorder.kept() {
        seen.extend([kept.up.concat(), kept.down.concat()]);
    }
    seen.iter().for_each(|seen| assert_blind("the relay", seen, &secrets));
    // What it has to see, else nothing was looked at.
    for (name, public) in [
        ("a device's identity", scanned.host.identity.public().0.to_vec()),
        ("the other device's identity", typed.host.identity.public().0.to_vec()),
        ("the host's identity", scanned.host.host_identity.0.to_vec()),
        ("a rendezvous", url.secret.rendezvous().0.to_vec()),
    ] {
        assert!(seen.iter().any(|seen| contains(seen, &public)), "the recorder does not see {name}");
    }
    let circuits: usize = seen.iter().map(Vec::len).sum();
    assert!(circuits > 20_000, "only {circuits} bytes were recorded");
    stage.stop().await;
}
