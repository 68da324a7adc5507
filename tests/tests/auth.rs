//! With `--api-key`, only callers who hold a key are served.

use serde_json::json;
use tenon_tests::checkpoint::Checkpoint;
use tenon_tests::server::Server;

#[test]
fn only_a_known_key_is_served() {
    let directory = tempfile::tempdir().expect("temporary directory");
    Checkpoint::default().write(directory.path());
    let path = directory.path().to_str().expect("UTF-8 path");
    let keys = [
        "--api-key",
        "first-secret-key",
        "--api-key",
        "second-secret-key",
    ];
    let model = ["--model", path, "--served-model-name", "tiny"];
    let server = Server::start(&[&model[..], &keys[..]].concat());
    let body = json!({"model": "tiny", "input": "oak"}).to_string();
    let post = |authorization: Option<&str>| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.map(|value| ("authorization", value)));
        server.send("POST", "/v1/embeddings", &headers, body.as_bytes())
    };
    for key in ["Bearer first-secret-key", "bearer second-secret-key"] {
        let answer = post(Some(key));
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
    }
    let wrong = [
        None,
        Some("Bearer first-secret-kez"),
        Some("Bearer first-secret-key-and-more"),
        Some("Bearer "),
        Some("first-secret-key"),
        Some("Basic first-secret-key"),
    ];
    for key in wrong {
        let answer = post(key);
        let text = answer.text();
        assert_eq!(answer.status, 401, "{key:?}: {text}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "invalid_api_key", "{key:?}: {text}");
        assert!(
            !text.contains("first-secret-ke"),
            "the key is echoed: {text}"
        );
    }
    assert_eq!(server.get("/v1/models").status, 401);
    for open in ["/health", "/ready"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    assert!(!server.log().contains("secret-key"), "a key is in the log");
    server.assert_log_is_clean();
}
