//! Images are fetched from the hosts that the operator names, and from nowhere else.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::json;
use tenon_tests::http::Response;
use tenon_tests::multimodal::{self, GME, bytes, data_uri};
use tenon_tests::server::Server;

/// A host that gives an image for `/odd.png`, a text for `/text`, and points elsewhere for
/// `/inward`. It ends with the test process.
fn image_host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that went away misses nothing.
            thread::spawn(move || answer(stream).ok());
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let read = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..read]);
    let (status, body) = match head.split(' ').nth(1) {
        Some("/odd.png") => ("200 OK", bytes("odd.png")),
        Some("/text") => ("200 OK", b"not an image".to_vec()),
        Some("/inward") => (
            "302 Found\r\nlocation: http://127.0.0.2/odd.png",
            Vec::new(),
        ),
        _ => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat())
}

fn ask(server: &Server, image: &str) -> Response {
    server.embeddings(&json!({"model": GME, "input": [{"image": image}]}))
}

#[test]
fn only_hosts_that_the_operator_names_are_asked() {
    let host = image_host();
    let directory = multimodal::folder().join(GME);
    let model = directory.to_str().expect("UTF-8 path");
    let hosts = [
        "--model",
        model,
        "--dtype",
        "f32",
        "--image-hosts",
        "127.0.0.1",
    ];
    let server = Server::start(&hosts);
    let given = ask(&server, &data_uri("odd.png"));
    let fetched = ask(&server, &format!("http://{host}/odd.png"));
    assert_eq!(fetched.status, 200, "{}", fetched.text());
    let embedding = |answer: &Response| answer.json()["data"][0]["embedding"].clone();
    assert_eq!(embedding(&fetched), embedding(&given));
    for url in [
        format!("http://{host}/text"),
        format!("http://{host}/inward"),
        format!("http://{host}/absent.png"),
        format!("http://localhost:{}/odd.png", host.port()),
        "http://127.0.0.1:1/odd.png".to_owned(),
        "http://127.0.0.2/odd.png".to_owned(),
        "http://[::1]/odd.png".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let refused = ask(&server, &url);
        assert_eq!(refused.status, 400, "{url}: {}", refused.text());
        assert_eq!(refused.json()["error"]["param"], "input[0].image", "{url}");
    }
    let again = ask(&server, &format!("http://{host}/odd.png"));
    assert_eq!(embedding(&again), embedding(&given));
    server.assert_log_is_clean();
}
