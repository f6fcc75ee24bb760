//! `session.json`: session frames, what is refused, and one session with a cut, record by record.

use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use reachback_proto::frame::{ByeReason, ChannelCloseReason, Frame, GapReason};
use reachback_proto::ids::SessionId;
use reachback_proto::session::{API_CHANNEL, Event, Session, SessionLimits};
use reachback_proto::wire::Reader;
use serde_json::{Value, json};

const SESSION: SessionId = SessionId([0x5e; 16]);

/// Every frame, and its fields as another implementation would name them.
pub(crate) fn frames() -> Vec<(Frame<'static>, Value)> {
    let received = vec![(0, 3), (1, 70_000)];
    let received_json = json!([[0, 3], [1, 70_000]]);
    vec![
        (Frame::Open, json!({"frame": "Open"})),
        (Frame::Opened { session: SESSION }, json!({"frame": "Opened", "session": hex(&SESSION.0)})),
        (
            Frame::Resume { session: SESSION, received: received.clone() },
            json!({"frame": "Resume", "session": hex(&SESSION.0), "received": received_json}),
        ),
        (Frame::Resumed { received }, json!({"frame": "Resumed", "received": received_json})),
        (Frame::Gap { reason: GapReason::Unknown }, json!({"frame": "Gap", "reason": 1})),
        (Frame::Gap { reason: GapReason::Ended }, json!({"frame": "Gap", "reason": 2})),
        (
            Frame::Bye { reason: ByeReason::ShuttingDown, reconnect_in_ms: 1500 },
            json!({"frame": "Bye", "reason": 3, "reconnect_in_ms": 1500}),
        ),
        (
            Frame::ChannelOpen { channel: 1, seq: 0, environment: "ssh:devbox" },
            json!({"frame": "ChannelOpen", "channel": 1, "seq": 0, "environment": "ssh:devbox"}),
        ),
        (
            Frame::ChannelClose { channel: 1, seq: 9, reason: ChannelCloseReason::Gap, text: "lost" },
            json!({"frame": "ChannelClose", "channel": 1, "seq": 9, "reason": 2, "text": "lost"}),
        ),
        (
            Frame::Data { channel: 1, seq: 1, first: Some(2), last: true, bytes: b"{}" },
            json!({"frame": "Data", "channel": 1, "seq": 1, "total": 2, "last": true, "bytes": hex(b"{}")}),
        ),
        (
            Frame::Data { channel: 300, seq: 70_000, first: None, last: false, bytes: b"mid" },
            json!({"frame": "Data", "channel": 300, "seq": 70_000, "total": null, "last": false, "bytes": hex(b"mid")}),
        ),
        (Frame::Ack { channel: 1, next: 64 }, json!({"frame": "Ack", "channel": 1, "next": 64})),
        (Frame::Ping { id: 5 }, json!({"frame": "Ping", "id": 5})),
        (Frame::Pong { id: 5 }, json!({"frame": "Pong", "id": 5})),
    ]
}

/// Plaintexts that no frames are in, and why.
pub(crate) const REFUSED: [(&str, &str); 8] = [
    ("an unknown tag", "7f"),
    ("a tag that only the relay uses", "41"),
    ("a byte hidden in the padding", "2105000001"),
    ("a frame that ends in the middle", "025e5e"),
    ("a gap without a reason", "05"),
    ("flags that this version does not know", "1200000402027b7d"),
    ("a fragment longer than the record", "12000003020a7b7d"),
    ("text that is not UTF-8", "10010002fffe"),
];

pub(crate) fn session() -> Value {
    let frames: Vec<Value> = frames()
        .into_iter()
        .map(|(frame, mut fields)| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            fields["hex"] = json!(hex(&bytes));
            fields
        })
        .collect();
    let refused: Vec<Value> = REFUSED.iter().map(|(why, bytes)| json!({"why": why, "hex": bytes})).collect();
    json!({
        "about": "session frames (docs/protocol.md, 4): each alone; plaintexts that are refused; a session that is cut and resumed",
        "frames": frames,
        "refused": refused,
        "exchange": exchange(),
    })
}

/// A device opens a session and a channel and sends a message of three fragments; the link is cut after the
/// second; they resume; the host answers and the channel is closed.
fn exchange() -> Value {
    let now = Instant::now();
    let later = now + Duration::from_millis(20);
    let mut device = Session::device(SessionLimits::default(), now);
    let mut host = Session::host(SESSION, SessionLimits::default(), now);
    let mut records = Vec::new();
    let mut carry = |device: &mut Session, host: &mut Session, from_device: bool, lost: bool| {
        let (from, to) = if from_device { (device, host) } else { (host, device) };
        let mut plaintext = Vec::new();
        assert!(from.poll_transmit(&mut plaintext, later), "there is a record to send");
        records.push(json!({
            "from": if from_device { "device" } else { "host" },
            "lost": lost,
            "frames": names(&plaintext),
            "hex": hex(&plaintext),
        }));
        if !lost {
            to.handle_record(&plaintext, later).expect("the other side takes it");
        }
        while let Some(event) = to.poll_event() {
            if let Event::Message { channel, seq, .. } = event {
                to.handled(channel, seq, later);
            }
        }
    };
    host.link_up(now);
    device.link_up(now);
    carry(&mut device, &mut host, true, false);
    carry(&mut device, &mut host, false, false);
    let channel = device.open_channel("local").expect("there is room");
    device.send(channel, vec![b'x'; 40_000].into()).expect("there is room");
    carry(&mut device, &mut host, true, false);
    carry(&mut device, &mut host, true, false);
    carry(&mut device, &mut host, true, true);
    device.link_down();
    host.link_down();
    host.link_up(now);
    device.link_up(now);
    carry(&mut device, &mut host, true, false);
    carry(&mut device, &mut host, false, false);
    carry(&mut device, &mut host, true, false);
    host.send(channel, b"{\"id\":1,\"result\":{}}".as_slice().into()).expect("there is room");
    host.send(API_CHANNEL, b"{}".as_slice().into()).expect("there is room");
    carry(&mut device, &mut host, false, false);
    device.close_channel(channel, ChannelCloseReason::Done, "");
    carry(&mut device, &mut host, true, false);
    carry(&mut device, &mut host, false, false);
    json!(records)
}

fn names(plaintext: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(plaintext);
    let mut names = Vec::new();
    while let Some(frame) = Frame::decode(&mut reader).expect("our own record") {
        let text = format!("{frame:?}");
        names.push(text.split([' ', '(']).next().expect("a name").to_owned());
    }
    names
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}
