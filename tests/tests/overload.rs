//! More work than the server takes is refused at once, with the time to come back.

use std::thread;

use serde_json::json;
use tenon_tests::server::{MINILM, Server};

#[test]
fn a_full_server_answers_429_with_retry_after() {
    let server = Server::minilm(&["--max-concurrent-requests", "2"]);
    let texts = vec!["oak beam joint ".repeat(60); 32];
    let body = json!({"model": MINILM, "input": texts});
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| server.embeddings(&body)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect()
    });
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 429)
        .collect();
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(served + refused.len(), 24, "{statuses:?}");
    assert!(served >= 1 && !refused.is_empty(), "{statuses:?}");
    for answer in refused {
        let seconds = answer
            .header("retry-after")
            .and_then(|value| value.parse::<u64>().ok());
        assert!(
            seconds.is_some_and(|s| (1..=60).contains(&s)),
            "{:?}",
            answer.headers
        );
        assert!(
            answer.json()["error"]["message"].is_string(),
            "{}",
            answer.text()
        );
    }
    assert_eq!(server.embed(MINILM, "the next request works").len(), 1);
    server.assert_log_is_clean();
}
