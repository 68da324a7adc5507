//! Clients that leave, and the server that does.

use super::*;

async fn ends(server: JoinHandle<()>) {
    let ended = tokio::time::timeout(PATIENCE, server).await;
    ended.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let server = start(HttpOptions::default()).await;
    let mut client = server.connect().await;
    client.write(post("hang").as_bytes()).await;
    until(|| server.service.begun.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.service.cancelled.load(Ordering::SeqCst), 0);
    drop(client);
    until(|| server.service.cancelled.load(Ordering::SeqCst) == 1).await;
    let metrics = server.get("/metrics").await;
    let line = r#"tenon_requests_total{endpoint="/v1/embeddings",status="499"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[tokio::test]
async fn finishes_what_is_in_progress_then_ends() {
    let server = start(HttpOptions::default()).await;
    let mut idle = server.connect().await;
    idle.write(post("ok").as_bytes()).await;
    assert_eq!(idle.read().await.status, 200);
    let silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.write(post("slow").as_bytes()).await;
    until(|| server.service.begun.load(Ordering::SeqCst) == 2).await;
    server.lifecycle.drain();
    assert!(idle.is_closed().await);
    let reply = busy.read().await;
    assert_eq!((reply.status, reply.text()), (200, "slow"));
    assert_eq!(reply.header("connection"), Some("close"));
    ends(server.server).await;
    drop(silent);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn is_not_ready_while_it_still_accepts() {
    let server = start(HttpOptions {
        drain_delay: Duration::from_millis(300),
        ..HttpOptions::default()
    })
    .await;
    server.lifecycle.drain();
    let reply = server.get("/ready").await;
    assert_eq!(
        (reply.status, reply.text()),
        (503, r#"{"status":"draining"}"#)
    );
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.post("{}").await.status, 200);
    ends(server.server).await;
}

#[tokio::test]
async fn cuts_off_what_outlasts_the_drain() {
    let server = start(HttpOptions {
        drain_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    })
    .await;
    let mut client = server.connect().await;
    client.write(post("hang").as_bytes()).await;
    until(|| server.service.begun.load(Ordering::SeqCst) == 1).await;
    server.lifecycle.drain();
    ends(server.server).await;
    assert_eq!(server.service.cancelled.load(Ordering::SeqCst), 1);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn hears_sigterm_and_sigint() {
    let mut signals = StopSignals::install().unwrap();
    for signal in ["-TERM", "-INT"] {
        let own_id = std::process::id().to_string();
        let kill = std::process::Command::new("kill")
            .args([signal, &own_id])
            .status();
        assert!(kill.unwrap().success());
        let next = tokio::time::timeout(PATIENCE, signals.next());
        next.await.expect("a signal");
    }
}
