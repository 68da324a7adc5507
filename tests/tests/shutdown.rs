//! SIGTERM: no new work, the work at hand is finished, exit 0.

use std::thread;
use std::time::Duration;

use serde_json::json;
use tenon_tests::http::Connection;
use tenon_tests::server::{MINILM, Server, vectors};

#[test]
fn sigterm_finishes_the_requests_at_hand_and_exits_0() {
    let mut server = Server::minilm(&[]);
    let texts = vec!["oak beam joint ".repeat(60); 128];
    let body = json!({"model": MINILM, "input": texts, "encoding_format": "base64"}).to_string();
    let address = server.address;
    let requests: Vec<_> = (0..2)
        .map(|_| {
            let body = body.clone();
            thread::spawn(move || {
                let mut connection = Connection::open(address)?;
                let headers = [("content-type", "application/json")];
                connection.send("POST", "/v1/embeddings", &headers, body.as_bytes())
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    assert!(
        requests.iter().all(|request| !request.is_finished()),
        "the work is too short"
    );
    server.terminate();
    thread::sleep(Duration::from_millis(200));
    assert!(!server.is_ready(), "ready while it stops");
    for request in requests {
        let answer = request.join().expect("a client").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(vectors(&answer.json()).len(), 128);
    }
    let status = server.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "{}", server.log());
    server.assert_log_is_clean();
}

#[test]
fn sigterm_does_not_wait_for_idle_connections() {
    let mut server = Server::minilm(&[]);
    let mut idle = server.connect();
    assert_eq!(
        idle.send("GET", "/health", &[], b"")
            .expect("an answer")
            .status,
        200
    );
    server.terminate();
    let status = server.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", server.log());
}
