use std::time::Instant;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::super::super::connection::TOO_LARGE;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

type Client = WebSocketStream<Sieve<DuplexStream>>;
type Server = WebSocketStream<DuplexStream>;

/// A client that lets through so much, and a server; `pipe` bytes fit between the two.
async fn pair(allowance: Allowance, pipe: usize) -> (Client, Server) {
    let (ours, theirs) = tokio::io::duplex(pipe);
    let limitless = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (client, server) = tokio::join!(
        tokio_tungstenite::client_async_with_config(
            "ws://localhost/",
            Sieve::new(ours, 64, allowance),
            Some(limitless)
        ),
        tokio_tungstenite::accept_async_with_config(theirs, Some(limitless))
    );
    (client.unwrap().0, server.unwrap())
}

async fn next(client: &mut Client) -> Value {
    let message = timeout(PATIENCE, client.next()).await.expect("nothing comes").unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

fn answer(id: &Value, length: usize) -> String {
    format!(r#"{{"id":{id},"result":"{}"}}"#, "x".repeat(length))
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_under_its_id_and_the_rest_goes_on() {
    for pipe in [7, 1 << 16] {
        let (mut client, mut server) = pair(Allowance::new(10_000), pipe).await;
        let ids = [json!(7), json!("reachback:1"), json!("ü\"\\"), json!("x".repeat(2000))];
        let send = async {
            for id in &ids {
                server.send(Message::text(answer(id, 100))).await.unwrap();
                server.send(Message::text(answer(id, 70_000))).await.unwrap();
                server.send(Message::Ping("x".into())).await.unwrap();
                server.send(Message::text(answer(id, 300))).await.unwrap();
            }
            server
        };
        let receive = async {
            for id in &ids {
                assert_eq!(next(&mut client).await["result"].as_str().unwrap().len(), 100);
                let refused = next(&mut client).await;
                assert_eq!((&refused["id"], &refused["error"]["code"]), (id, &json!(TOO_LARGE)), "{refused}");
                let pinged = timeout(PATIENCE, client.next()).await.expect("no ping").unwrap().unwrap();
                assert!(pinged.is_ping(), "{pinged:?}");
                assert_eq!(next(&mut client).await["result"].as_str().unwrap().len(), 300);
            }
        };
        tokio::join!(send, receive);
    }
}

#[tokio::test]
async fn lengths_around_each_form_of_a_header_pass_as_they_are() {
    let (mut client, mut server) = pair(Allowance::default(), 100).await;
    let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 3 << 20];
    let send = async {
        for length in lengths {
            server.send(Message::text("x".repeat(length))).await.unwrap();
        }
        server
    };
    let receive = async {
        for length in lengths {
            let message = timeout(PATIENCE, client.next()).await.expect("nothing comes").unwrap().unwrap();
            assert_eq!(message.len(), length);
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn what_answers_nothing_or_comes_in_pieces_ends_the_stream_when_it_is_too_large() {
    let long = "x".repeat(20_000);
    let notification = format!(r#"{{"method":"x","params":"{long}"}}"#);
    let request = format!(r#"{{"id":1,"method":"x","params":"{long}"}}"#);
    let nested = format!(r#"{{"result":{{"id":1,"result":"{long}"}},"id":2}}"#);
    for text in [notification, request, nested, long.clone()] {
        let (mut client, mut server) = pair(Allowance::new(10_000), 1 << 16).await;
        server.send(Message::text(r#"{"id":0,"result":0}"#)).await.unwrap();
        server.send(Message::text(text)).await.unwrap();
        assert_eq!(next(&mut client).await["id"], 0, "what came before is lost");
        assert_ended(&mut client).await;
    }
    let (mut client, mut server) = pair(Allowance::new(10_000), 1 << 16).await;
    for (opcode, is_last) in [(Data::Text, false), (Data::Continue, false), (Data::Continue, true)] {
        let frame = Frame::message("x".repeat(4000).into_bytes(), OpCode::Data(opcode), is_last);
        server.send(Message::Frame(frame)).await.unwrap();
    }
    assert_ended(&mut client).await;
}

async fn assert_ended(client: &mut Client) {
    let end = timeout(PATIENCE, client.next()).await.expect("the stream goes on").unwrap().unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Io(error) = end else { panic!("wanted our own error, got {end:?}") };
    assert!(error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()), "{error:?}");
}

#[tokio::test]
async fn a_length_that_is_only_claimed_costs_nothing_and_ends_the_stream() {
    let (mut client, server) = pair(Allowance::new(10_000), 1 << 16).await;
    let mut raw = server.into_inner();
    let mut header = vec![0x81, 127];
    header.extend_from_slice(&u64::MAX.to_be_bytes());
    raw.write_all(&header).await.unwrap();
    raw.write_all(&[b'x'; HEAD]).await.unwrap();
    assert_ended(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn large_messages_of_all_connections_take_turns_and_none_waits_for_ever() {
    const LENGTH: usize = 3 << 20;
    let allowance = Allowance::new(4 << 20);
    let (mut first, mut other) = (pair(allowance.clone(), 8 << 20).await, pair(allowance, 8 << 20).await);
    first.1.send(Message::text(answer(&json!(1), LENGTH))).await.unwrap();
    other.1.send(Message::text(answer(&json!(2), LENGTH))).await.unwrap();
    // Taken, and in hand: nothing more is asked of that connection.
    assert_eq!(next(&mut first.0).await["id"], 1);
    let asked = Instant::now();
    let refused = next(&mut other.0).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(TOO_LARGE)), "{refused}");
    assert!(asked.elapsed() < PATIENCE, "the clock of tokio is paused");
    // Done with it, and nothing follows there.
    assert!(first.0.next().now_or_never().is_none());
    other.1.send(Message::text(answer(&json!(4), LENGTH))).await.unwrap();
    assert_eq!(next(&mut other.0).await["result"].as_str().unwrap().len(), LENGTH);
}
