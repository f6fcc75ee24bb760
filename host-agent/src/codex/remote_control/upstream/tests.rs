use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
/// Short, as these tests wait for it.
const SILENCE: Duration = Duration::from_millis(300);

/// An upstream that is not waited for long, and whoever listens there.
async fn upstream() -> (Upstream, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (Upstream { silence: SILENCE, ..Upstream::new(&url).unwrap() }, listener)
}

async fn ask(upstream: &Upstream) -> Result<Response, PassError> {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let request = Request::builder().uri("/ps/mcp").body(Body::empty()).unwrap();
    timeout(DEADLINE, upstream.pass(request, place)).await.expect("an end")
}

/// Takes a connection and what it asks, and says this.
async fn say(listener: &TcpListener, answer: &str) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

#[test]
fn a_sign_in_leaves_this_machine_by_tls_only() {
    for good in [
        DEFAULT,
        "https://chatgpt.com/backend-api/",
        "http://127.0.0.1:9/x",
        "http://[::1]:9",
        "http://localhost:9/",
        "https://10.0.0.1/a/b",
    ] {
        Upstream::new(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for plain in ["http://chatgpt.com/backend-api", "http://10.0.0.1/", "http://127.0.0.1.example.com/"] {
        assert!(matches!(Upstream::new(plain), Err(UpstreamError::Plain)), "{plain}");
    }
    for bad in
        ["", "chatgpt.com", "ftp://chatgpt.com/", "https://a:b@chatgpt.com/", "https://chatgpt.com/?x", "https://c/#x"]
    {
        assert!(matches!(Upstream::new(bad), Err(UpstreamError::Url)), "{bad}");
    }
}

#[test]
fn headers_of_one_connection_stay_on_it() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "close, X-Once"),
        ("connection", "x-twice"),
        ("x-once", "1"),
        ("x-twice", "2"),
        ("keep-alive", "5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "x"),
        ("proxy-connection", "x"),
        ("te", "trailers"),
        ("authorization", "Bearer x"),
        ("accept", "text/event-stream"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    strip(&mut headers);
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept", "authorization"]);
}

#[tokio::test]
async fn a_vendor_that_takes_a_request_and_says_nothing_is_given_up() {
    let (upstream, listener) = upstream().await;
    for beginning in ["", "HTTP/1.1 200 OK\r\nx-half: "] {
        let (answer, _stream) = tokio::join!(ask(&upstream), say(&listener, beginning));
        let error = answer.expect_err("an answer");
        assert!(matches!(error, PassError::Slow), "{beginning}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_falls_silent_breaks_off_and_a_slow_one_does_not() {
    let (upstream, listener) = upstream().await;
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (answer, mut stream) = tokio::join!(ask(&upstream), say(&listener, head));
    let mut body = answer.unwrap().into_body().into_data_stream();
    let began = Instant::now();
    while began.elapsed() < 3 * SILENCE {
        tokio::time::sleep(SILENCE / 6).await;
        stream.write_all(b"2\r\nhi\r\n").await.unwrap();
        let piece = futures_util::StreamExt::next(&mut body).await.unwrap();
        assert_eq!(piece.expect("it is slow, not silent"), "hi");
    }
    let end = timeout(DEADLINE, futures_util::StreamExt::next(&mut body)).await.expect("an end");
    assert!(end.expect("no whole answer").is_err());
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the vendor's end is closed").unwrap();
}

#[tokio::test]
async fn why_there_is_no_answer_is_told_apart() {
    let (upstream, listener) = upstream().await;
    for rubbish in ["SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200"] {
        let answering = async { drop(say(&listener, rubbish).await) };
        let (answer, ()) = tokio::join!(ask(&upstream), answering);
        let error = answer.expect_err("an answer");
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY, "{rubbish}: {error}");
    }

    // One that speaks no TLS.
    let port = listener.local_addr().unwrap().port();
    let secure = Upstream::new(&format!("https://127.0.0.1:{port}/")).unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(ask(&secure), answering);
    let error = answer.expect_err("an answer");
    assert!(matches!(error, PassError::Tls(_)) && error.status() == StatusCode::BAD_GATEWAY, "{error}");

    drop(listener);
    let error = ask(&upstream).await.expect_err("an answer");
    assert_eq!((error.status(), PassError::Slow.status()), (StatusCode::NOT_FOUND, StatusCode::GATEWAY_TIMEOUT));
}

/// All of it together: the name, the proxy and TLS.
#[tokio::test(start_paused = true)]
async fn a_connection_has_ten_seconds_in_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let way_out = WayOut::of(|name| (name == "HTTPS_PROXY").then(|| format!("http://{addr}").into()));
    let secure = Upstream::new("https://vendor.example/").unwrap().through(way_out);
    let began = Instant::now();
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(CONNECT_TIME * 3 / 4).await;
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(ask(&secure), answering);
    assert!(matches!(answer.expect_err("an answer"), PassError::Slow));
    assert!(began.elapsed() < CONNECT_TIME + Duration::from_secs(1), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn through_a_proxy_only_the_name_of_the_backend_is_told_and_a_refusal_is_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let way_out = WayOut::of(|name| (name == "https_proxy").then(|| format!("http://me:pw@{addr}").into()));
    let secure = Upstream::new("https://vendor.example/x").unwrap().through(way_out.clone());
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        head.truncate(read);
        (String::from_utf8(head).unwrap(), stream)
    };
    let (answer, (head, _stream)) = tokio::join!(ask(&secure), answering);
    let error = answer.expect_err("an answer");
    assert_eq!((error.status(), matches!(error, PassError::Proxy(_))), (StatusCode::BAD_GATEWAY, true), "{error}");
    let mut lines: Vec<_> = head.to_ascii_lowercase().trim_end().split("\r\n").map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["connect vendor.example:443 http/1.1", "host: vendor.example:443", "proxy-authorization: basic bwu6chc="]
    );

    // What stays on this machine goes past it.
    let (plain, vendor) = upstream().await;
    let plain = plain.through(way_out);
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    let (answer, _stream) = tokio::join!(ask(&plain), say(&vendor, empty));
    assert_eq!(answer.unwrap().status(), StatusCode::NO_CONTENT);
}
