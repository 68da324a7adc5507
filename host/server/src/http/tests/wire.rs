//! What comes over the wire besides one well-formed HTTP/1 request.

use super::*;

#[tokio::test]
async fn keeps_a_connection_for_many_requests() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    for body in ["one", "two", "error", "three"] {
        client.write(post(body).as_bytes()).await;
        client.read().await;
    }
    client.write(post("four").as_bytes()).await;
    assert_eq!(client.read().await.text(), "four");
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    let requests = format!("{}{}{}", post("slow"), post("b"), post("c"));
    client.write(requests.as_bytes()).await;
    for expected in ["slow", "b", "c"] {
        assert_eq!(client.read().await.text(), expected);
    }
}

#[tokio::test]
async fn refuses_garbage_and_lives_on() {
    let server = start(HttpOptions::default()).await;
    for garbage in [
        "\0\x01\x02\x03\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /encode HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST /encode HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}", // the start of a TLS handshake
    ] {
        let mut client = server.connect().await;
        client.write(garbage.as_bytes()).await;
        client.0.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = client.0.read_to_end(&mut answer);
        // A reset is fine as well: there is nobody to talk to.
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("an end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    let mut client = server.connect().await;
    client.write(post("ok").as_bytes()).await;
    client.write(b"\x01garbage\r\n\r\n").await;
    assert_eq!(client.read().await.text(), "ok");
    assert_eq!(client.read().await.status, 400);
    assert!(client.is_closed().await);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn refuses_both_ways_of_framing_a_body_at_once() {
    let server = start(HttpOptions::default()).await;
    let smuggled = "POST /encode HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\n\r\n";
    let mut client = server.connect().await;
    client.write(smuggled.as_bytes()).await;
    let reply = client.read().await;
    // Either it is refused, or the chunked framing wins and the connection ends.
    assert!(
        reply.status == 400 || reply.header("connection") == Some("close"),
        "{}",
        reply.head
    );
}

#[tokio::test]
async fn answers_http_1_0_and_closes() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    client.write(b"GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.read().await.status, 200);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_request_may_trickle_in() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    for byte in post("hi").bytes() {
        client.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.read().await.text(), "hi");
}

/// A client of HTTP/2 over plain TCP.
async fn http2(
    server: &Running,
) -> hyper::client::conn::http2::SendRequest<http_body_util::Full<Bytes>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn http2_post(body: &'static str) -> hyper::Request<http_body_util::Full<Bytes>> {
    let body = http_body_util::Full::new(Bytes::from_static_str(body));
    hyper::Request::post("http://x/v1/embeddings")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn speaks_http2_with_prior_knowledge() {
    use http_body_util::BodyExt;
    let server = start(HttpOptions::default()).await;
    let mut sender = http2(&server).await;
    for (body, status, answer) in [("one", 200, "one"), ("chunks", 200, "{\"a\":1}")] {
        let reply = sender.send_request(http2_post(body)).await.unwrap();
        assert_eq!(reply.status(), status);
        assert!(reply.headers().contains_key("x-request-id"));
        let collected = reply.into_body().collect().await.unwrap();
        assert_eq!(collected.to_bytes(), answer);
    }
    let reply = sender.send_request(http2_post("panic")).await.unwrap();
    assert_eq!(reply.status(), 500);
}

#[tokio::test]
async fn cancels_a_call_whose_http2_stream_is_reset() {
    let server = start(HttpOptions::default()).await;
    let mut sender = http2(&server).await;
    let call = tokio::spawn(sender.send_request(http2_post("hang")));
    until(|| server.service.begun.load(Ordering::SeqCst) == 1).await;
    call.abort();
    until(|| server.service.cancelled.load(Ordering::SeqCst) == 1).await;
    let reply = sender.send_request(http2_post("ok")).await.unwrap();
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn closes_an_idle_http2_connection_and_drains_a_busy_one() {
    let server = start(HttpOptions {
        header_read_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    let mut sender = http2(&server).await;
    sender.send_request(http2_post("ok")).await.unwrap();
    until(|| sender.is_closed()).await;
    let mut sender = http2(&server).await;
    let call = tokio::spawn(sender.send_request(http2_post("slow")));
    until(|| server.service.begun.load(Ordering::SeqCst) == 2).await;
    server.lifecycle.drain();
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    let ended = tokio::time::timeout(PATIENCE, server.server).await;
    ended.expect("the server ends").unwrap();
}

#[tokio::test]
async fn drops_an_http2_client_that_does_not_read_its_answer() {
    let server = start(HttpOptions {
        header_read_timeout: Duration::from_millis(50),
        write_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    let mut sender = http2(&server).await;
    let unread = sender.send_request(http2_post("big")).await.unwrap();
    until(|| server.metrics.connections().get() == 0).await;
    drop(unread);
}
