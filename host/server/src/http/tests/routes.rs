//! What each route answers.

use super::*;

#[tokio::test]
async fn embeds_and_says_which_request_it_was() {
    let server = start(HttpOptions::default()).await;
    let reply = server.post("{\"input\":\"hi\"}").await;
    assert_eq!((reply.status, reply.text()), (200, "{\"input\":\"hi\"}"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("content-length"), Some("14"));
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    assert!(
        reply
            .header("openai-processing-ms")
            .unwrap()
            .parse::<u64>()
            .is_ok()
    );
    let reply = server.post("endpoint").await;
    assert_eq!(reply.text(), "/v1/embeddings");
    let request = post("endpoint").replace("/v1/embeddings", "/encode?x=y");
    assert_eq!(server.send(&request).await.text(), "/encode");
}

#[tokio::test]
async fn takes_a_chunked_body_and_one_without_a_type() {
    let server = start(HttpOptions::default()).await;
    let chunked = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
                   2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    assert_eq!(server.send(chunked).await.text(), "abcde");
    assert_eq!(server.post("").await.status, 200);
}

#[tokio::test]
async fn sends_an_answer_in_pieces_with_its_length() {
    let server = start(HttpOptions::default()).await;
    let reply = server.post("chunks").await;
    assert_eq!(reply.text(), "{\"a\":1}");
    assert_eq!(server.post("big").await.body.len(), 32 << 20);
}

#[tokio::test]
async fn echoes_a_well_formed_request_id_and_the_body_wins() {
    let server = start(HttpOptions::default()).await;
    let check = async |header: &str, body: &str, expected: Option<&str>| {
        let reply = server.send(&post_with(header, body)).await;
        let id = reply.header("x-request-id").unwrap();
        match expected {
            Some(expected) => assert_eq!(id, expected),
            None => assert!(id.starts_with("req_"), "{id}"),
        }
    };
    check("x-request-id: mine-1\r\n", "x", Some("mine-1")).await;
    check("x-request-id: two words\r\n", "x", None).await;
    check("x-request-id: mine-1\r\n", "own id", Some("from-the-body")).await;
    check("x-request-id: mine-1\r\n", "bad id", Some("mine-1")).await;
    check("x-request-id: mine-1\r\n", "error", Some("mine-1")).await;
    let request = "GET /nowhere HTTP/1.1\r\nhost: x\r\nx-request-id: mine-2\r\n\r\n";
    let reply = server.send(request).await;
    assert_eq!(reply.header("x-request-id"), Some("mine-2"));
}

#[tokio::test]
async fn passes_errors_on() {
    let server = start(HttpOptions::default()).await;
    let reply = server.post("error").await;
    assert_eq!(reply.error(400, None), "The input is empty.");
    assert_eq!(reply.json()["error"]["param"], "input");
    let reply = server.post("dialect error").await;
    assert_eq!((reply.status, reply.text()), (429, "dialect error"));
    assert_eq!(reply.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn trusts_no_part_of_an_answer() {
    let server = start(HttpOptions::default()).await;
    server.post("bad type").await.error(500, None);
    server.post("bad status").await.error(500, None);
}

#[tokio::test]
async fn answers_a_panic_with_500_and_keeps_the_connection() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    client.write(post("panic").as_bytes()).await;
    let message = client.read().await.error(500, None);
    assert!(!message.contains("fake"), "{message}");
    client.write(post("ok").as_bytes()).await;
    assert_eq!(client.read().await.text(), "ok");
}

#[tokio::test]
async fn refuses_a_body_that_is_not_json() {
    let server = start(HttpOptions::default()).await;
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let reply = server.send(&post_with(form, "a=b")).await;
    let message = reply.error(415, Some("unsupported_media_type"));
    assert!(message.contains("application/x-www-form-urlencoded"));
    assert_eq!(server.service.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn lists_and_finds_models() {
    let server = start(HttpOptions::default()).await;
    let card = serde_json::json!({
        "id": "mini", "object": "model", "created": 1_700_000_000, "owned_by": "tenon",
        "root": "./model", "parent": null, "max_model_len": 256,
    });
    let list = server.get("/v1/models").await.json();
    assert_eq!(list, serde_json::json!({"object": "list", "data": [card]}));
    for id in [
        "mini",
        "sentence-transformers/all-MiniLM-L6-v2",
        "sentence-transformers%2Fall-MiniLM-L6-v2",
    ] {
        let reply = server.get(&format!("/v1/models/{id}")).await;
        assert_eq!((reply.status, reply.json()), (200, card.clone()), "{id}");
    }
    for id in ["", "gpt-4", "mini/"] {
        let reply = server.get(&format!("/v1/models/{id}")).await;
        reply.error(404, Some("model_not_found"));
    }
}

#[tokio::test]
async fn describes_the_model_as_sglang_does() {
    let server = start(HttpOptions::default()).await;
    for path in ["/model_info", "/get_model_info"] {
        let info = server.get(path).await.json();
        assert_eq!(info["model_path"], "./model");
        assert_eq!(info["is_generation"], false);
        assert_eq!(info["dimensions"], 384);
        assert_eq!(info["models"][0]["served_model_name"], "mini");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_of_the_same_shape() {
    let server = start(HttpOptions::default()).await;
    let message = server
        .get("/v2/embeddings")
        .await
        .error(404, Some("not_found"));
    assert!(message.contains("/v2/embeddings"));
    let check = async |method: &str, path: &str, allow: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let reply = server.send(&request).await;
        reply.error(405, Some("method_not_allowed"));
        assert_eq!(reply.header("allow"), Some(allow));
    };
    check("GET", "/v1/embeddings", "post, options").await;
    check("PUT", "/encode", "post, options").await;
    check("FLY", "/encode", "post, options").await;
    check("POST", "/health", "get, head, options").await;
    check("DELETE", "/v1/models/mini", "get, head, options").await;
}

#[tokio::test]
async fn answers_head_and_options() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    client
        .write(b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    client
        .write(b"OPTIONS /encode HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let mut head = vec![0; 17];
    client.0.read_exact(&mut head).await.unwrap();
    assert_eq!(head, b"HTTP/1.1 200 OK\r\n");
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n\r\n") {
        rest.push(client.0.read_u8().await.unwrap());
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("content-length: 15\r\n"), "{rest}");
    let reply = client.read().await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("allow"), Some("post, options"));
}

#[tokio::test]
async fn needs_a_key_where_keys_are_configured() {
    let keys = Keys::from_list(&["sk-secret-key"]).unwrap();
    let server = start_with(HttpOptions::default(), keys).await;
    server.lifecycle.ready(server.service.clone());
    let check = async |header: &str| {
        let reply = server.send(&post_with(header, "{}")).await;
        let message = reply.error(401, Some("invalid_api_key"));
        assert!(!reply.head.contains("sk-") && !message.contains("sk-"));
        assert_eq!(reply.header("www-authenticate"), Some("bearer"));
    };
    check("").await;
    check("authorization: Bearer sk-wrong\r\n").await;
    check("authorization: Bearer sk-secret-key2\r\n").await;
    check("authorization: Basic sk-secret-key\r\n").await;
    check("authorization: Bearer\r\n").await;
    assert_eq!(server.service.begun.load(Ordering::SeqCst), 0);
    let right = "authorization: Bearer sk-secret-key\r\n";
    assert_eq!(server.send(&post_with(right, "{}")).await.status, 200);
    server
        .get("/v1/models")
        .await
        .error(401, Some("invalid_api_key"));
    server
        .get("/model_info")
        .await
        .error(401, Some("invalid_api_key"));
    for open in ["/health", "/ready", "/metrics"] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn is_alive_before_it_is_ready() {
    let server = start_with(HttpOptions::default(), Keys::default()).await;
    assert_eq!(server.get("/health").await.status, 200);
    let reply = server.get("/ready").await;
    assert_eq!(
        (reply.status, reply.text()),
        (503, r#"{"status":"starting"}"#)
    );
    let reply = server.post("{}").await;
    reply.error(503, None);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(
        server.get("/v1/models").await.json()["data"],
        serde_json::json!([])
    );
    server.get("/model_info").await.error(503, None);
    server.lifecycle.ready(server.service.clone());
    assert_eq!(server.get("/ready").await.status, 200);
    assert_eq!(server.post("{}").await.status, 200);
    server.lifecycle.fail();
    let reply = server.get("/ready").await;
    assert_eq!(
        (reply.status, reply.text()),
        (503, r#"{"status":"failed"}"#)
    );
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn shows_metrics_by_route_and_status() {
    let server = start(HttpOptions::default()).await;
    server.post("{}").await;
    server.get("/v1/models/nope").await;
    server.get("/some/where").await;
    let reply = server.get("/metrics").await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .contains("version=1.0.0")
    );
    for line in [
        r#"tenon_requests_total{endpoint="/v1/embeddings",status="200"} 1"#,
        r#"tenon_requests_total{endpoint="/v1/models/{id}",status="404"} 1"#,
        r#"tenon_requests_total{endpoint="other",status="404"} 1"#,
        r#"tenon_request_duration_seconds_count{endpoint="/v1/embeddings"} 1"#,
        "tenon_in_flight_requests 1",
    ] {
        assert!(reply.text().contains(line), "{line}\n{}", reply.text());
    }
}
