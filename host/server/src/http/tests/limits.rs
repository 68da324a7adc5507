//! Every limit, and what a client sees when it meets one.

use super::*;

#[tokio::test]
async fn refuses_a_body_over_the_limit_and_names_it() {
    let server = start(HttpOptions {
        max_body_bytes: 1000,
        ..HttpOptions::default()
    })
    .await;
    assert_eq!(server.post(&"x".repeat(1000)).await.status, 200);
    // Large enough that closing without reading it would reset the connection.
    let message = server.post(&"x".repeat(8 << 20)).await.error(413, None);
    assert!(message.contains("1000"), "{message}");
    let chunk = "x".repeat(600);
    let chunked = format!(
        "POST /encode HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
         258\r\n{chunk}\r\n258\r\n{chunk}\r\n0\r\n\r\n"
    );
    server.send(&chunked).await.error(413, None);
}

#[tokio::test]
async fn refuses_a_large_body_before_it_is_sent() {
    let options = HttpOptions {
        max_body_bytes: 1000,
        ..HttpOptions::default()
    };
    let server = start(options).await;
    let request = "POST /encode HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
                   content-length: 2000\r\n\r\n";
    server.send(request).await.error(413, None);
    let mut client = server.connect().await;
    client.write(request.replace("2000", "2").as_bytes()).await;
    assert_eq!(client.read().await.status, 100);
    client.write(b"ab").await;
    assert_eq!(client.read().await.text(), "ab");
}

#[tokio::test]
async fn refuses_bodies_over_what_all_may_hold_together() {
    let server = start(HttpOptions {
        max_buffered_bytes: 1000,
        ..HttpOptions::default()
    })
    .await;
    let reply = server.post(&"x".repeat(1001)).await;
    reply.error(503, None);
    assert!(reply.header("retry-after").is_some());
    for _ in 0..3 {
        assert_eq!(server.post(&"x".repeat(1000)).await.status, 200);
    }
}

#[tokio::test]
async fn refuses_oversize_heads() {
    let server = start(HttpOptions {
        max_header_bytes: 8192,
        max_headers: 20,
        ..HttpOptions::default()
    })
    .await;
    let long = format!("x-long: {}\r\n", "y".repeat(9000));
    assert_eq!(server.send(&post_with(&long, "")).await.status, 431);
    let many = "x-many: y\r\n".repeat(30);
    assert_eq!(server.send(&post_with(&many, "")).await.status, 431);
    let path = format!("/{}", "y".repeat(100_000));
    let status = server.get(&path).await.status;
    assert!(matches!(status, 414 | 431), "{status}");
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn closes_connections_whose_head_does_not_come() {
    let server = start(HttpOptions {
        header_read_timeout: Duration::from_millis(100),
        ..HttpOptions::default()
    })
    .await;
    for start in [
        "",
        "P",
        "PRI",
        "GET /heal",
        "GET /health HTTP/1.1\r\nhost: x\r\n",
    ] {
        let mut client = server.connect().await;
        client.write(start.as_bytes()).await;
        assert!(client.is_closed().await, "{start:?}");
    }
    let mut client = server.connect().await;
    client
        .write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(client.read().await.status, 200);
    assert!(client.is_closed().await, "an idle connection");
}

#[tokio::test]
async fn gives_up_on_a_body_that_does_not_come() {
    let server = start(HttpOptions {
        body_read_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    let request = post("0123456789").replace("456789", "");
    let message = server.send(&request).await.error(408, None);
    assert!(message.contains("50ms"), "{message}");
}

#[tokio::test]
async fn gives_up_on_a_call_that_takes_too_long_and_cancels_it() {
    let server = start(HttpOptions {
        request_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    server.post("hang").await.error(504, None);
    assert_eq!(server.service.cancelled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn limits_calls_in_progress_but_not_probes() {
    let server = start(HttpOptions {
        max_concurrent_requests: 1,
        ..HttpOptions::default()
    })
    .await;
    let mut client = server.connect().await;
    client.write(post("hang").as_bytes()).await;
    until(|| server.service.begun.load(Ordering::SeqCst) == 1).await;
    let reply = server.post("{}").await;
    let message = reply.error(429, None);
    assert!(message.contains("limit of 1 "), "{message}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    for path in ["/health", "/ready", "/metrics", "/v1/models"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    drop(client);
    until(|| server.service.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.post("{}").await.status, 200);
}

#[tokio::test]
async fn further_connections_wait_for_one_to_close() {
    let server = start(HttpOptions {
        max_connections: 1,
        ..HttpOptions::default()
    })
    .await;
    let mut first = server.connect().await;
    first.write(post("ok").as_bytes()).await;
    assert_eq!(first.read().await.status, 200);
    let mut second = server.connect().await;
    second.write(post("ok").as_bytes()).await;
    let waiting = tokio::time::timeout(Duration::from_millis(50), second.read()).await;
    assert!(waiting.is_err(), "the second connection is not served yet");
    drop(first);
    assert_eq!(second.read().await.status, 200);
}

#[tokio::test]
async fn drops_a_client_that_does_not_read_its_answer() {
    let server = start(HttpOptions {
        write_timeout: Duration::from_millis(100),
        ..HttpOptions::default()
    })
    .await;
    let mut client = server.connect().await;
    client.write(post("big").as_bytes()).await;
    until(|| server.metrics.connections().get() == 1).await;
    until(|| server.metrics.connections().get() == 0).await;
}
