//! Models that see are served with the vectors and token counts of the reference, and bad
//! images cost their own request only.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tenon_tests::http::Response;
use tenon_tests::multimodal::{self, base64, bytes, data_uri};
use tenon_tests::reference::{assert_batch_invariant, assert_equal, assert_near};
use tenon_tests::server::Server;

const GME: &str = "gme-qwen2-vl";

fn start(dtype: &str) -> Server {
    let mut arguments = vec!["--dtype", dtype];
    let checkpoints = multimodal::all();
    for checkpoint in &checkpoints {
        let path = checkpoint.directory.to_str().expect("UTF-8 path");
        arguments.extend(["--model", path]);
    }
    Server::start(&arguments)
}

/// One server of all checkpoints, ended by a watchdog when the test process is gone.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| start("f32"))
}

#[test]
fn vectors_and_token_counts_equal_the_reference() {
    assert_equal(server(), &multimodal::all());
}

#[test]
fn vectors_in_bf16_point_where_the_references_do() {
    assert_near(&start("bf16"), &multimodal::all());
}

#[test]
fn vectors_are_the_same_to_the_bit_alone_and_in_company() {
    for checkpoint in &multimodal::all() {
        assert_batch_invariant(server(), checkpoint);
    }
}

fn ask(model: &str, input: Value) -> Response {
    server().embeddings(&json!({"model": model, "input": [input]}))
}

#[test]
fn an_image_may_be_written_in_several_ways() {
    let vector = |answer: Response| {
        assert_eq!(answer.status, 200, "{:.500}", answer.text());
        answer.json()["data"][0]["embedding"].clone()
    };
    let uri = vector(ask(GME, json!({"image": data_uri("odd.png")})));
    let bare = vector(ask(GME, json!({"image": base64("odd.png")})));
    let unpadded = base64("odd.png").trim_end_matches('=').to_owned();
    let beside = vector(ask(GME, json!({"text": "", "image": unpadded})));
    assert!(uri == bare && uri == beside);
}

/// A PNG of this size without pixels: what a decompression bomb begins with.
fn header(width: u32, height: u32) -> String {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut crc = !0_u32;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
        }
    }
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(chunk);
    file.extend((!crc).to_be_bytes());
    BASE64_STANDARD.encode(file)
}

#[test]
fn bad_images_are_told_what_is_wrong() {
    let whole = bytes("odd.png");
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let image = "input[0].image";
    let cases = [
        (json!({"image": encode(b"not an image")}), image, ""),
        (
            json!({"image": encode(&whole[..whole.len() / 2])}),
            image,
            "",
        ),
        (json!({"image": header(60_000, 60_000)}), image, "50000000"),
        (json!({"image": header(0, 5)}), image, ""),
        (json!({"image": encode(b"BM6\0\0\0\0\0\0\0")}), image, ""),
        (json!({"image": "?"}), image, "nor base64"),
        (json!({"image": ""}), image, "nor base64"),
        (json!({"image": "ftp://a/b.png"}), image, "nor base64"),
        (
            json!({"image": "https://example.com/b.png"}),
            image,
            "image-hosts",
        ),
        (json!({"image": 5}), "input[0]", "string"),
        (
            json!({"video": "https://example.com/b.mp4"}),
            "input[0].video",
            "not served yet",
        ),
    ];
    for (input, param, words) in cases {
        let answer = ask(GME, input.clone());
        let text = answer.text();
        assert_eq!(answer.status, 400, "{input:.80}: {text}");
        let error = &answer.json()["error"];
        assert_eq!(error["param"], param, "{input:.80}: {text}");
        assert!(text.contains(words), "{input:.80}: {text}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let fused = ask("clip", json!({"text": "a", "image": data_uri("odd.png")}));
    assert_eq!(fused.status, 400);
    assert!(
        fused.text().contains("a text or an image"),
        "{}",
        fused.text()
    );
    let many = vec![json!({"image": data_uri("tiny.png")}); 65];
    let many = server().embeddings(&json!({"model": "clip", "input": many}));
    assert_eq!(many.status, 400);
    assert!(many.text().contains("the limit is 64"), "{}", many.text());
    assert_eq!(ask(GME, json!({"image": data_uri("odd.png")})).status, 200);
    server().assert_log_is_clean();
}

#[test]
fn an_image_is_never_truncated_and_a_long_one_is_refused() {
    let input = json!({"image": data_uri("odd.png"), "text": "oak ".repeat(40)});
    let answer = server().embeddings(&json!({
        "model": GME, "input": [input], "truncate_prompt_tokens": 20,
    }));
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("is not truncated"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_model_of_text_takes_no_images() {
    let answer = Server::shared_minilm().embeddings(&json!({
        "model": tenon_tests::server::MINILM, "input": [{"image": data_uri("odd.png")}],
    }));
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("takes text only"),
        "{}",
        answer.text()
    );
}

/// A server that gives an image for `/odd.png`, points elsewhere for `/inward`, and knows
/// nothing else.
fn image_host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let body = bytes("odd.png");
            let answer = if head.starts_with("GET /odd.png ") {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                [head.into_bytes(), body].concat()
            } else if head.starts_with("GET /inward ") {
                b"HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: http://127.0.0.2/odd.png\r\ncontent-length: 0\r\n\r\n".to_vec()
            } else {
                b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec()
            };
            // A client that went away misses nothing.
            let _ = stream.write_all(&answer);
        }
    });
    address
}

#[test]
fn images_are_fetched_from_hosts_that_the_operator_names() {
    let host = image_host();
    let directory = multimodal::folder().join(GME);
    let model = directory.to_str().expect("UTF-8 path");
    let server = Server::start(&[
        "--model",
        model,
        "--dtype",
        "f32",
        "--image-hosts",
        "127.0.0.1",
    ]);
    let ask =
        |image: String| server.embeddings(&json!({"model": GME, "input": [{"image": image}]}));
    let fetched = ask(format!("http://{host}/odd.png"));
    assert_eq!(fetched.status, 200, "{}", fetched.text());
    let given = ask(data_uri("odd.png")).json()["data"][0]["embedding"].clone();
    assert_eq!(fetched.json()["data"][0]["embedding"], given);
    for url in [
        format!("http://{host}/inward"),
        format!("http://{host}/absent.png"),
        format!("http://localhost:{}/odd.png", host.port()),
        "http://127.0.0.2/odd.png".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let refused = ask(url.clone());
        assert_eq!(refused.status, 400, "{url}: {}", refused.text());
        assert_eq!(refused.json()["error"]["param"], "input[0].image", "{url}");
    }
    server.assert_log_is_clean();
}
