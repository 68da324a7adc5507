//! Whatever stands in the place of an image, the caller is told what is wrong, and the next
//! request works.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tenon_tests::http::Response;
use tenon_tests::multimodal::{self, CLIP, GME, base64, bytes, data_uri};
use tenon_tests::server::{MINILM, Server};

/// One server of all checkpoints, ended by a watchdog when the test process is gone.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| multimodal::serve("f32"))
}

fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Wants a refusal of the field `param` in these words, and that the next request works.
#[track_caller]
fn assert_refused(server: &Server, body: &Value, param: &str, words: &str) {
    let answer = server.embeddings(body);
    let (status, text) = (answer.status, answer.text());
    let label = format!("{:.120}", body.to_string());
    assert_eq!(status, 400, "{label}: {text}");
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error", "{label}: {text}");
    assert_eq!(error["param"], param, "{label}: {text}");
    let message = error["message"].as_str().unwrap_or_default();
    for word in words.split_whitespace() {
        assert!(
            message.contains(word),
            "{label}: {message:?} lacks {word:?}"
        );
    }
    let next: Response = server.embeddings(&json!({"model": body["model"], "input": "oak"}));
    assert_eq!(next.status, 200, "{label}, then: {}", next.text());
}

fn alone(model: &str, input: Value) -> Value {
    json!({"model": model, "input": [input]})
}

/// A PNG of this size without pixels: what a decompression bomb begins with.
fn header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut crc = !0_u32;
    for byte in &chunk {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            crc = crc >> 1 ^ carry;
        }
    }
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(chunk);
    file.extend((!crc).to_be_bytes());
    file
}

#[test]
fn files_that_are_no_images_are_refused() {
    let whole = bytes("odd.png");
    let mut spoiled = whole.clone();
    spoiled[whole.len() / 2] ^= 0x55;
    let jpeg = bytes("photo.jpg");
    let files: [(&str, Vec<u8>, &str); 14] = [
        ("text", b"not an image".to_vec(), ""),
        ("half a PNG", whole[..whole.len() / 2].to_vec(), ""),
        ("a spoiled PNG", spoiled, ""),
        ("the signature of PNG", whole[..8].to_vec(), ""),
        ("half a JPEG's head", jpeg[..20].to_vec(), ""),
        ("a bomb", header(60_000, 60_000), "60000 50000000"),
        ("the largest bomb", header(u32::MAX, u32::MAX), ""),
        ("no rows", header(5, 0), ""),
        ("no columns", header(0, 5), ""),
        ("BMP", b"BM6\0\0\0\0\0\0\0".to_vec(), ""),
        ("TIFF", b"II*\0\x08\0\0\0\0\0".to_vec(), ""),
        ("AVIF", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1".to_vec(), ""),
        (
            "SVG",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
            "",
        ),
        ("PDF", b"%PDF-1.7\n".to_vec(), ""),
    ];
    for (name, file, words) in files {
        println!("{name}");
        for model in [GME, CLIP] {
            let input = json!({"image": encode(&file)});
            assert_refused(server(), &alone(model, input), "input[0].image", words);
        }
    }
    server().assert_log_is_clean();
}

#[test]
fn an_image_much_longer_than_wide_is_refused_where_the_model_cannot_see_it() {
    let sliver = json!({"image": data_uri("sliver.png")});
    assert_refused(
        server(),
        &alone(GME, sliver.clone()),
        "input[0]",
        "1 201 200",
    );
    let cropped = server().embeddings(&alone(CLIP, sliver));
    assert_eq!(cropped.status, 200, "CLIP crops: {}", cropped.text());
}

#[test]
fn what_is_neither_a_url_nor_base64_is_refused() {
    let image = "input[0].image";
    for text in [
        "?",
        "",
        " ",
        "ftp://example.com/b.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png,%89PNG",
        "data:image/png;base64,",
        "data:image/png;base64,?",
    ] {
        assert_refused(server(), &alone(GME, json!({"image": text})), image, "");
    }
    for value in [json!(5), json!(null), json!([]), json!({"url": "?"})] {
        let answer = server().embeddings(&alone(GME, json!({"image": value})));
        assert_eq!(answer.status, 400, "{value}: {}", answer.text());
    }
}

#[test]
fn urls_are_refused_where_the_operator_names_no_host() {
    for url in ["https://example.com/b.png", "http://127.0.0.1/b.png"] {
        let input = alone(GME, json!({"image": url}));
        assert_refused(server(), &input, "input[0].image", "operator --image-hosts");
    }
}

#[test]
fn videos_are_not_served_yet() {
    let words = "Videos not served yet";
    let video = "https://example.com/b.mp4";
    let input = alone(GME, json!({"video": video}));
    assert_refused(server(), &input, "input[0].video", words);
    let part = json!({"type": "video_url", "video_url": {"url": video}});
    let messages = json!([{"role": "user", "content": [part]}]);
    let body = json!({"model": GME, "messages": messages});
    assert_refused(server(), &body, "messages[0].content[0]", words);
}

#[test]
fn the_bad_one_of_several_images_is_named() {
    let good = json!({"image": data_uri("odd.png")});
    let bad = json!({"image": encode(b"not an image")});
    let body = json!({"model": GME, "input": [good, {"text": "oak"}, bad]});
    assert_refused(server(), &body, "input[2].image", "");
    let part = |url: String| json!({"type": "image_url", "image_url": {"url": url}});
    let bad = format!("data:image/png;base64,{}", encode(b"not an image"));
    let content = json!([part(data_uri("odd.png")), part(bad)]);
    let messages = json!([{"role": "user", "content": content}]);
    let body = json!({"model": GME, "messages": messages});
    assert_refused(server(), &body, "messages[0].content[1]", "");
}

#[test]
fn clip_takes_a_text_or_an_image_not_both() {
    let words = "a text or an image";
    let both = json!({"text": "a", "image": data_uri("odd.png")});
    assert_refused(server(), &alone(CLIP, both), "input[0]", words);
    let image = json!({"type": "image_url", "image_url": {"url": data_uri("odd.png")}});
    let content = json!([image, {"type": "text", "text": "a"}]);
    let messages = json!([{"role": "user", "content": content}]);
    let body = json!({"model": CLIP, "messages": messages});
    assert_refused(server(), &body, "messages", words);
}

#[test]
fn a_model_of_text_takes_no_images() {
    let server = Server::shared_minilm();
    for input in [
        json!({"image": data_uri("odd.png")}),
        json!({"text": "oak", "image": base64("odd.png")}),
    ] {
        let body = alone(MINILM, input);
        assert_refused(server, &body, "input[0].image", "takes text only");
    }
    server.assert_log_is_clean();
}

#[test]
fn one_request_has_so_many_images_and_no_more() {
    let images = |count| json!({"model": CLIP, "input": vec![json!({"image": data_uri("tiny.png")}); count]});
    assert_refused(server(), &images(65), "input[64].image", "65 64");
    let most = server().embeddings(&images(64));
    assert_eq!(most.status, 200, "{}", most.text());
}

#[test]
fn an_image_is_never_truncated() {
    let input = json!({"image": data_uri("odd.png"), "text": "oak ".repeat(40)});
    let mut body = alone(GME, input);
    body["truncate_prompt_tokens"] = json!(20);
    assert_refused(server(), &body, "input[0]", "is not truncated");
}
