//! Fetches from servers on this machine, which is not public and must be named.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::target::Target;
use super::{FetchError, FetchLimits, FetchPolicy, Fetcher};

const LOOPBACK: &str = "127.0.0.1";

/// How a server answers a path; `{port}` in it stands for its own.
type Route = (&'static str, &'static str);

/// Serves one answer a connection, on a port of its own.
async fn serve(routes: &'static [Route]) -> u16 {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                let path = head.split(' ').nth(1).unwrap_or_default();
                let found = routes.iter().find(|(known, _)| *known == path);
                let (_, answer) = found.unwrap_or(&("", "HTTP/1.1 404 Not Found\r\n\r\n"));
                let answer = answer.replace("{port}", &port.to_string());
                stream.write_all(answer.as_bytes()).await.unwrap();
                if path == "/slow" {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                if path == "/endless" {
                    while stream.write_all(b"4\r\nmore\r\n").await.is_ok() {}
                }
            });
        }
    });
    port
}

async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn limits() -> FetchLimits {
    FetchLimits {
        max_bytes: 1000,
        timeout: Duration::from_millis(800),
        ..FetchLimits::default()
    }
}

fn fetcher(hosts: &[&str]) -> Fetcher {
    Fetcher::new(FetchPolicy::from_list(hosts).unwrap(), limits()).unwrap()
}

/// Fetches from an allowed loopback address.
async fn fetch(routes: &'static [Route], path: &str) -> Result<Bytes, FetchError> {
    let port = serve(routes).await;
    let url = format!("http://{LOOPBACK}:{port}{path}");
    fetcher(&[LOOPBACK]).fetch(&url).await
}

/// The message of the error that a fetch from these hosts ends with.
async fn refusal(hosts: &[&str], url: &str) -> String {
    fetcher(hosts).fetch(url).await.unwrap_err().to_string()
}

const PLAIN: &[Route] = &[
    (
        "/a.png",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nimage",
    ),
    ("/until-close", "HTTP/1.1 200 OK\r\n\r\nimage"),
    (
        "/chunked?size=1",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nima\r\n2\r\nge\r\n0\r\n\r\n",
    ),
];

#[tokio::test]
async fn fetches_from_an_allowed_address() {
    for path in [
        "/a.png",
        "/until-close",
        "/chunked?size=1",
        "/a.png#fragment",
    ] {
        assert_eq!(fetch(PLAIN, path).await.unwrap(), "image", "{path}");
    }
}

#[tokio::test]
async fn fetches_from_an_allowed_name_at_an_allowed_address() {
    let port = serve(PLAIN).await;
    let hosts = ["localhost", "127.0.0.0/8", "::1"];
    let url = format!("http://LOCALHOST:{port}/a.png");
    assert_eq!(fetcher(&hosts).fetch(&url).await.unwrap(), "image");
}

#[tokio::test]
async fn refuses_everything_unless_hosts_are_allowed() {
    let message = refusal(&[], "https://example.com/a.png").await;
    assert!(
        message.contains("--image-hosts or TENON_IMAGE_HOSTS"),
        "{message}"
    );
}

#[tokio::test]
async fn refuses_hosts_that_are_not_listed() {
    for (hosts, url) in [
        (&["example.com"][..], "http://example.org/"),
        (&["example.com"], "http://127.0.0.1/"),
        (&["*"], "http://127.0.0.1/"),
        (&["*"], "http://127.0.0.1.:80/"),
        (&["*"], "http://2130706433/"),
        (&["*"], "http://0x7f.1/"),
        (&["*"], "http://0177.0.0.1/"),
        (&["*"], "http://[::1]/"),
        (&["*", "127.0.0.1"], "http://[::ffff:127.0.0.1]/"),
        (&["*", "127.0.0.1"], "http://[64:ff9b::7f00:1]/"),
        (&["*"], "http://169.254.169.254/latest/meta-data/"),
        (&["*"], "http://\u{ff11}27.0.0.1/"),
    ] {
        let error = fetcher(hosts).fetch(url).await.unwrap_err();
        assert!(matches!(error, FetchError::Host { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn refuses_names_that_lead_to_addresses_that_are_not_public() {
    let port = serve(PLAIN).await;
    for hosts in [["localhost"], ["*"]] {
        for name in ["localhost", "localhost."] {
            let message = refusal(&hosts, &format!("http://{name}:{port}/a.png")).await;
            assert_eq!(message, "localhost leads to an address that is not public");
        }
    }
}

#[test]
fn one_address_that_is_not_public_spoils_a_name() {
    let policy = FetchPolicy::from_list(&["example.com"]).unwrap();
    let target = Target::parse("http://example.com/", &policy).unwrap();
    let address = |text: &str| text.parse().unwrap();
    let public = vec![address("8.8.8.8:80"), address("[2600::1]:80")];
    assert_eq!(target.admit(public.clone(), &policy).unwrap(), public);
    for inner in ["10.0.0.1:80", "[::1]:80", "[::ffff:8.8.8.8]:80"] {
        let mixed = vec![address("8.8.8.8:80"), address(inner)];
        let error = target.admit(mixed, &policy).unwrap_err();
        assert!(matches!(error, FetchError::Address { .. }), "{inner}");
    }
}

#[tokio::test]
async fn refuses_urls_of_another_kind() {
    for (url, what) in [
        ("ftp://127.0.0.1/a.png", "its scheme is not http or https"),
        ("file:///etc/passwd", "its scheme is not http or https"),
        (
            "data:image/png;base64,AAAA",
            "its scheme is not http or https",
        ),
        ("http://me@127.0.0.1/", "it holds a user name or a password"),
        (
            "http://:secret@127.0.0.1/",
            "it holds a user name or a password",
        ),
        ("a.png", "relative URL without a base"),
        ("http://", "empty host"),
        ("http://127.0.0.1:99999/", "invalid port number"),
    ] {
        let message = refusal(&[LOOPBACK], url).await;
        assert_eq!(message, format!("the URL cannot be fetched: {what}"));
    }
    let long = format!("http://127.0.0.1/{}", "a".repeat(9000));
    let message = refusal(&[LOOPBACK], &long).await;
    assert!(
        message.ends_with("it has 9017 bytes, the limit is 8192"),
        "{message}"
    );
}

const LARGE: &[Route] = &[
    ("/told", "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n"),
    (
        "/endless",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
];

#[tokio::test]
async fn refuses_files_that_are_too_large() {
    for path in ["/told", "/endless"] {
        let message = fetch(LARGE, path).await.unwrap_err().to_string();
        assert_eq!(
            message, "the file has more than 1000 bytes, the limit",
            "{path}"
        );
    }
}

#[tokio::test]
async fn refuses_what_takes_too_long() {
    const SLOW: &[Route] = &[("/slow", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nim")];
    let start = Instant::now();
    let message = fetch(SLOW, "/slow").await.unwrap_err().to_string();
    assert_eq!(message, "fetching took longer than 0.8 s, the limit");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn waits_for_a_slot_and_gives_it_back() {
    const SLOW: &[Route] = &[
        ("/slow", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nim"),
        (
            "/a.png",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nimage",
        ),
    ];
    let port = serve(SLOW).await;
    let policy = FetchPolicy::from_list(&[LOOPBACK]).unwrap();
    let one = FetchLimits {
        max_concurrent: 1,
        ..limits()
    };
    let fetcher = Fetcher::new(policy, one).unwrap();
    let url = |path: &str| format!("http://{LOOPBACK}:{port}{path}");
    let (slow, quick) = (url("/slow"), url("/a.png"));
    let (first, second) = tokio::join!(fetcher.fetch(&slow), fetcher.fetch(&quick));
    assert!(matches!(first, Err(FetchError::TooSlow { .. })));
    assert!(
        matches!(second, Err(FetchError::TooSlow { .. })),
        "it waited"
    );
    assert_eq!(fetcher.fetch(&quick).await.unwrap(), "image");
}

const REDIRECTS: &[Route] = &[
    (
        "/a.png",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nimage",
    ),
    ("/relative", "HTTP/1.1 302 Found\r\nlocation: a.png\r\n\r\n"),
    (
        "/absolute",
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: http://127.0.0.1:{port}/relative\r\n\r\n",
    ),
    ("/circle", "HTTP/1.1 301 Moved\r\nlocation: /circle\r\n\r\n"),
    (
        "/inward",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.2:{port}/a.png\r\n\r\n",
    ),
    (
        "/name",
        "HTTP/1.1 302 Found\r\nlocation: http://localhost:{port}/a.png\r\n\r\n",
    ),
    (
        "/file",
        "HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\n\r\n",
    ),
    (
        "/user",
        "HTTP/1.1 302 Found\r\nlocation: http://me@127.0.0.1/\r\n\r\n",
    ),
    (
        "/closed",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n",
    ),
    ("/nowhere", "HTTP/1.1 302 Found\r\n\r\n"),
];

#[tokio::test]
async fn follows_redirects_to_what_is_allowed() {
    for path in ["/relative", "/absolute"] {
        assert_eq!(fetch(REDIRECTS, path).await.unwrap(), "image", "{path}");
    }
}

#[tokio::test]
async fn refuses_redirects_to_anything_else_without_saying_where() {
    for path in ["/inward", "/name", "/file", "/user", "/closed"] {
        let error = fetch(REDIRECTS, path).await.unwrap_err();
        let message = "the URL redirects to what cannot be fetched";
        assert_eq!(error.to_string(), message, "{path}");
        assert!(error.source().is_some(), "the log gets to know");
    }
}

#[tokio::test]
async fn checks_the_address_behind_a_redirect() {
    let policy = FetchPolicy::from_list(&["*"]).unwrap();
    let target = Target::parse("http://example.com/", &policy).unwrap();
    let inward = target.redirected("//localhost/a.png", &policy).unwrap();
    let slot = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    let error = inward.addresses(&policy, Arc::new(slot)).await.unwrap_err();
    assert!(matches!(error, FetchError::Address { .. }), "{error}");
}

#[tokio::test]
async fn refuses_redirects_in_a_circle_or_to_nowhere() {
    let message = fetch(REDIRECTS, "/circle").await.unwrap_err().to_string();
    assert_eq!(message, "the URL redirects more than 5 times, the limit");
    let message = fetch(REDIRECTS, "/nowhere").await.unwrap_err().to_string();
    assert_eq!(message, "the server answered the URL with status 302");
}

const BROKEN: &[Route] = &[
    (
        "/short",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nimage",
    ),
    ("/other", "SSH-2.0-OpenSSH_9.6\r\n"),
    ("/empty", "HTTP/1.1 204 No Content\r\n\r\n"),
    (
        "/part",
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 1\r\n\r\ni",
    ),
    (
        "/packed",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\ni",
    ),
];

#[tokio::test]
async fn refuses_answers_that_are_no_file() {
    for (path, expected) in [
        ("/absent", "the server answered the URL with status 404"),
        ("/empty", "the server answered the URL with status 204"),
        ("/part", "the server answered the URL with status 206"),
        ("/short", "127.0.0.1 gave no proper answer"),
        ("/other", "127.0.0.1 gave no proper answer"),
        (
            "/packed",
            "the server compressed its answer to the URL, which was not asked for",
        ),
    ] {
        let message = fetch(BROKEN, path).await.unwrap_err().to_string();
        assert_eq!(message, expected, "{path}");
    }
    let message = refusal(&[LOOPBACK], "http://127.0.0.1:1/").await;
    assert_eq!(message, "cannot connect to 127.0.0.1");
}

/// A server with a certificate of its own for the name, and the roots that trust it.
async fn serve_tls(name: &str) -> (u16, RootCertStore) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_head(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nimage";
                stream.write_all(answer).await.unwrap();
                let _ = stream.shutdown().await;
            }
        }
    });
    (port, roots)
}

#[tokio::test]
async fn fetches_over_tls_from_the_certificate_s_name_only() {
    let policy = FetchPolicy::from_list(&["localhost", "127.0.0.0/8", "::1"]).unwrap();
    let (port, roots) = serve_tls("localhost").await;
    let trusting = Fetcher::with_roots(policy.clone(), limits(), roots).unwrap();
    let url = format!("https://localhost:{port}/a.png");
    assert_eq!(trusting.fetch(&url).await.unwrap(), "image");

    let other_name = format!("https://{LOOPBACK}:{port}/a.png");
    let message = trusting.fetch(&other_name).await.unwrap_err().to_string();
    assert_eq!(message, "cannot connect to 127.0.0.1");
    let strict = Fetcher::new(policy, limits()).unwrap();
    let message = strict.fetch(&url).await.unwrap_err().to_string();
    assert_eq!(message, "cannot connect to localhost");
}
